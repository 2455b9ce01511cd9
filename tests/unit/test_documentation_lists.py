"""What the documentation lists is all there is."""

import re

import pytest

from tests.documentation import README, ROOT, documents

ARCHITECTURE = ROOT / "doc" / "architecture.md"
# For those who work on pgdbpool; told where the tests and benchmarks are.
OURS = {"test", "dev", "benchmarks"}
each_folder = pytest.mark.parametrize(
    "folder",
    sorted(
        path.parent.name
        for path in ROOT.glob("pgdbpool/*/__init__.py")
        if f"of `{path.parent.name}`:" in ARCHITECTURE.read_text(encoding="utf-8")
    ),
)


def test_the_extras_are_all_told() -> None:
    """Each with what it brings, in a line of the README's table."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib is Python 3.11's")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    told = re.findall(
        r"^\| `pip install '\.\[(\w+)\]'` \|",
        README.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert set(told) == extras - OURS
    assert len(told) == len(set(told))


def test_what_is_to_be_installed_is_told_in_one_way() -> None:
    """From a clone: what an index has by this name is another version."""
    for path in documents():
        assert "pgdbpool[" not in path.read_text(encoding="utf-8"), path.name


@each_folder
def test_the_rooms_of_a_folder_are_all_told(folder: str) -> None:
    """By what each is about."""
    _, _, rest = ARCHITECTURE.read_text(encoding="utf-8").partition(f"of `{folder}`:")
    rows = re.match(r"\s*((?:\|.*\n)+)", rest)
    assert rows is not None
    told = [
        name
        for row in rows[1].splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    files = {path.stem for path in (ROOT / "pgdbpool" / folder).glob("*.py")}
    assert sorted(told) == sorted(files - {"__init__"})
