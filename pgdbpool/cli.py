"""The command ``pgdbpool``, which is there even when its libraries are not."""

import sys
from typing import Final

DEMO: Final = "demo"
# Which extra brings what a command may miss: by module, as an import reports it.
EXTRAS: Final = {
    "click": "cli",
    "prometheus_client": DEMO,
    "psutil": DEMO,
    "rich": "cli",
}


def main() -> None:
    """Run the command line; say in one line what to install when it cannot."""
    try:
        from pgdbpool.commands.group import command  # noqa: PLC0415 (may be missing)

        command(prog_name="pgdbpool")
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        # The demo's brings all of it.
        extra = DEMO if sys.argv[1:2] == [DEMO] else extra
        sys.exit(f"the command pgdbpool needs more: pip install 'pgdbpool[{extra}]'")
    except KeyboardInterrupt:
        sys.exit(130)
