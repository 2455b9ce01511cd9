"""What the documentation says is what the code does."""

import inspect
import re
from pathlib import Path

import pytest

import pgdbpool
from pgdbpool import PoolMiddleware, errors
from pgdbpool.endpoint.state import MOVES
from pgdbpool.environment.finding import REQUIRED, SINGLETON, TELLING, variable_of
from pgdbpool.environment.forms import FORMS
from pgdbpool.gunicorn import hooks
from tests.documentation import (
    CONFIGURATION,
    README,
    ROOT,
    documents,
    renewed,
    snippets,
    table,
)

ARCHITECTURE = ROOT / "doc" / "architecture.md"
FAILURES = ROOT / "doc" / "failures.md"
FIRST_SCREEN = 40  # lines
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -e "
COMMANDS = {
    f"{INSTALL}'.[demo]' && .venv/bin/pgdbpool demo",
    f"{INSTALL}'.[test]' && .venv/bin/pytest",
}
each_document = pytest.mark.parametrize("path", documents(), ids=lambda path: path.stem)


def text(path: Path) -> str:
    """Return what a document says."""
    return path.read_text(encoding="utf-8")


def names(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]*)`", cell)


def test_the_readme_has_the_settings_as_they_are() -> None:
    """``python -m tests.documentation`` writes them anew."""
    assert text(README) == renewed(README)
    assert renewed(README).count("| `max_size` |") == 1


def test_every_variable_is_told_as_it_is() -> None:
    """``python -m tests.documentation`` writes them anew."""
    assert text(CONFIGURATION) == renewed(CONFIGURATION)
    assert renewed(CONFIGURATION).count("| `PGDBPOOL_MAX_SIZE` |") == 1
    told = {names(row[0])[0] for row in table(CONFIGURATION, "variable")}
    assert told == {variable_of(setting) for setting in FORMS}


def test_every_name_of_the_singleton_is_told() -> None:
    """Those first by which it is known that they are meant."""
    _, section = text(CONFIGURATION).split("## The names of the singleton")
    rows = re.findall(r"^\| `(\w+)` \| (\S+)", section, re.MULTILINE)
    assert tuple(name for name, _ in rows) == SINGLETON
    assert "one of the first six" in section
    assert len(TELLING) == 6
    assert tuple(name for name, default in rows if default == "required") == REQUIRED


def test_the_readme_begins_with_an_application_and_two_commands() -> None:
    """All of it on the first screen, each command complete on a line of its own."""
    screen = text(README).splitlines()[:FIRST_SCREEN]
    assert set(screen) >= COMMANDS
    application = snippets(README)[0].split()
    assert "PoolMiddleware(tell_time," in application
    assert application == snippets_in(screen)[0].split()


def snippets_in(lines: list[str]) -> list[str]:
    """Return the blocks of Python among some lines."""
    return re.findall(r"```python\n(.*?)```", "\n".join(lines), re.DOTALL)


def test_the_table_of_moves_is_the_one_in_force() -> None:
    """From each state to the same states, in the same order."""
    rows = table(ARCHITECTURE, "from")
    written = {names(row[0])[0]: names(row[1]) for row in rows}
    assert written == {
        state.name: [to.name for to in moves] for state, moves in MOVES.items()
    }


def test_the_layers_are_those_that_the_linter_checks() -> None:
    """From top to bottom."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib is Python 3.11's")
    settings = tomllib.loads(text(ROOT / "pyproject.toml"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layers = [name.strip() for row in contract["layers"] for name in row.split(":")]
    assert [names(row[0])[0] for row in table(ARCHITECTURE, "layer")] == layers


def test_the_arguments_of_the_middleware_are_all_told() -> None:
    """With their defaults."""
    signature = inspect.signature(PoolMiddleware).parameters.values()
    keywords = [p for p in signature if p.kind is p.KEYWORD_ONLY]
    told = {
        names(row[0])[0]: names(row[1])[0]
        for row in table(ROOT / "doc" / "wsgi.md", "argument")
    }
    assert told == {p.name: repr(p.default).replace("'", '"') for p in keywords}


def test_the_hooks_of_gunicorn_are_all_told() -> None:
    """By the names that gunicorn knows."""
    told = {names(row[0])[0] for row in table(ROOT / "doc" / "gunicorn.md", "hook")}
    assert told == set(pgdbpool.gunicorn.__all__)
    assert all(callable(getattr(hooks, name)) for name in told)


def test_each_error_is_explained() -> None:
    """By what raises it and what to do about it."""
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert raised <= set(re.findall(r"\w+", text(FAILURES)))
    assert raised <= set(pgdbpool.__all__)


def test_each_trouble_is_told_from_all_sides() -> None:
    """What the handler and the client see, what the log says, what to do."""
    _, *troubles = text(FAILURES).split("\n## ")
    assert len(troubles) > 20
    for trouble in troubles:
        sides = re.findall(r"^\* (\w+):", trouble, re.MULTILINE)
        assert sides == ["Handler", "Client", "Log", "Do"], trouble.partition("\n")[0]


@each_document
def test_a_link_of_a_document_leads_somewhere(path: Path) -> None:
    """Within the project."""
    for link in re.findall(r"\]\(([^)#]+)\)", text(path)):
        if not link.startswith("https://"):
            assert (path.parent / link).exists(), link


@each_document
def test_a_snippet_of_a_document_compiles(path: Path) -> None:
    """On each Python; they are run in the integration tests."""
    for snippet in snippets(path):
        compile(snippet, str(path), "exec")


@each_document
def test_a_document_uses_the_words_of_the_project(path: Path) -> None:
    """One idea, one word: what is acquired is held and released."""
    others = r"\b(borrow|check ?out|lease|evict|dispose|slot)(s|ed|ing)?\b"
    assert not re.findall(others, text(path), re.IGNORECASE)


def test_the_changelog_tells_of_this_version() -> None:
    """What a user sees of it."""
    assert f"## [{pgdbpool.__version__}]" in text(ROOT / "CHANGELOG.md")
