"""What the documentation says, for the tests that compare it with the code.

The tables of settings in the README are made from the fields of `Settings`, that of
variables from how each is written; ``python -m tests.documentation`` writes them anew.
"""

import dataclasses
import itertools
import re
from pathlib import Path

from pgdbpool.environment.finding import variable_of
from pgdbpool.environment.forms import FORMS, UNWRITABLE, text_of
from pgdbpool.settings import Settings

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONFIGURATION = ROOT / "doc" / "configuration.md"
BEGIN = "<!-- {}: python -m tests.documentation -->"
END = "<!-- end of {} -->"
HEADINGS = {
    "essential": "Essential",
    "often": "Often",
    "rarely": "Rarely",
    "several": "With several servers",
}
# The DSN of every snippet; a test puts its own in its place.
DSN = "postgresql://app@localhost/shop"


def documents() -> list[Path]:
    """Return all that a user reads."""
    return [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "doc").glob("*.md"))]


def settings_tables() -> str:
    """Return the settings of a pool in their groups, as Markdown."""
    fields = [field for field in dataclasses.fields(Settings) if field.metadata]
    head = ["| setting | default | unit | what and why |", "|---|---|---|---|"]
    parts = []
    for group, heading in HEADINGS.items():
        rows = [_row(field) for field in fields if field.metadata["group"] == group]
        parts.append("\n".join([f"**{heading}**", "", *head, *rows]))
    return "\n\n".join(parts)


def _row(field: "dataclasses.Field[object]") -> str:
    unit = field.metadata["unit"]
    return (
        f"| `{field.name}` | `{_default(field.default)}` | {unit} "
        f"| {field.metadata['doc']} |"
    )


def _default(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def variables_table() -> str:
    """Return the variable of each setting, as Markdown."""
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    head = ["| variable | value | default |", "|---|---|---|"]
    rows = []
    for setting, form in FORMS.items():
        default = defaults[setting]
        has_default = default != "" and (default is not None or form.may_be_none)
        text = f"`{text_of(default)}`" if has_default else ""
        rows.append(f"| `{variable_of(setting)}` | {form} | {text} |")
    without = [f"`{name}` has no variable: {why}." for name, why in UNWRITABLE.items()]
    return "\n".join([*head, *rows, "", *without])


def renewed(document: Path) -> str:
    """Return what a document says with its tables made anew."""
    text = document.read_text(encoding="utf-8")
    for name, make in (("settings", settings_tables), ("variables", variables_table)):
        before, begin, rest = text.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        if begin:
            text = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return text


def snippets(document: Path, language: str = "python") -> list[str]:
    """Return the blocks of code in a document, each at its own line number."""
    text = document.read_text(encoding="utf-8")
    blocks = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return ["\n" * text.count("\n", 0, b.start(1)) + b[1] for b in blocks]


def table(document: Path, first_column: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    lines = iter(document.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {first_column} |"):
            next(lines)  # the rule below the headings
            rows = itertools.takewhile(lambda row: row.startswith("|"), lines)
            return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    raise LookupError(f"{document.name} has no table of {first_column!r}")


if __name__ == "__main__":
    for path in (README, CONFIGURATION):
        path.write_text(renewed(path), encoding="utf-8")
