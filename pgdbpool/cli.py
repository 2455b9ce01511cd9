"""The command ``pgdbpool``, which is there even when its libraries are not."""

import sys

# What the extra "demo" brings: name of the module, as an import reports it.
EXTRA = frozenset({"click", "psutil", "psycopg2", "rich"})


def main() -> None:
    """Run the command line; say in one line what to install when it cannot."""
    try:
        from pgdbpool.commands.group import command  # noqa: PLC0415 (may be missing)

        command(prog_name="pgdbpool")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        sys.exit("the command pgdbpool needs more: pip install 'pgdbpool[demo]'")
    except KeyboardInterrupt:
        sys.exit(130)
