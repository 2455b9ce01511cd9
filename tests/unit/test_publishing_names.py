"""Which names have series of their own, in whatever order their file is lost."""

import os
from pathlib import Path

import pytest

from pgdbpool.histograms import OTHER
from pgdbpool.metrics import names as naming
from pgdbpool.metrics.client import DIRECTORY
from pgdbpool.metrics.names import Names

pytestmark = pytest.mark.usefixtures("_few")


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(naming, "MOST_NAMES", 3)
    monkeypatch.setenv(DIRECTORY, str(tmp_path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give the file of the names."""
    return tmp_path / naming.FILE


def of(names: Names, *asked: str) -> list[str]:
    """Return by which names series go."""
    return [names.of("route", "shop", name) for name in asked]


def line(name: str) -> str:
    """Return the line of a name."""
    return f'["route", "shop", "{name}"]\n'


# How many.


def test_names_are_bounded_in_all_processes_together(file: Path) -> None:
    """What one gives a series of its own, the others do too."""
    one, other = Names(), Names()
    found = of(one, "a", "b") + of(other, "c", "d", "a", OTHER) + of(one, "d", "c")
    assert found == ["a", "b", "c", OTHER, "a", OTHER, OTHER, "c"]
    assert of(Names(), "d") == [OTHER]
    assert file.read_text() == "".join(map(line, "abc"))
    file.unlink()  # nobody needs it any more
    assert of(one, "e") == [OTHER]
    assert not file.exists()


def test_names_of_each_kind_and_pool_are_counted_apart() -> None:
    """And a line is not longer than what stands in it."""
    names = Names()
    for kind, pool in [("route", "shop"), ("route", "news"), ("endpoint", "shop")]:
        found = [names.of(kind, pool, f"{number}\n") for number in range(5)]
        assert found == ["0\n", "1\n", "2\n", OTHER, OTHER]


def test_the_first_in_the_file_have_it(file: Path) -> None:
    """By their order there, whoever comes later to read it."""
    file.write_text("".join(map(line, "dcba")))
    assert of(Names(), "a", "b", "c", "d") == [OTHER, "b", "c", "d"]


# What becomes of the file.


@pytest.mark.parametrize("lost", ["removed", "emptied", "longer"])
def test_a_file_that_is_lost_is_written_anew(file: Path, lost: str) -> None:
    """With the names of each process that meets another one; none loses its own."""
    one = Names()
    assert of(one, "a") == ["a"]
    file.unlink()
    if lost == "emptied":
        file.touch()
    elif lost == "longer":  # by what another process has met since
        assert of(Names(), "something else") == ["something else"]
        assert file.stat().st_size > len(line("a"))
    assert of(one, "b", "a") == ["b", "a"]
    told = set(file.read_text().splitlines(keepends=True))
    assert {line("a"), line("b")} <= told
    assert one.error is None
    assert of(Names(), "a", "b") == ["a", "b"]
    assert of(one, "z") == ["z" if lost != "longer" else OTHER]


def test_a_line_of_which_the_end_is_missing_is_nobodys(file: Path) -> None:
    """Another process writes it now; its end comes later."""
    names = Names()
    file.write_text('["route", "shop", "a"]\n["rou')
    assert of(names, "a") == ["a"]
    file.write_text('["route", "shop", "a"]\n["route", "shop", "b"]\n')
    assert of(names, *"cde") == ["c", OTHER, OTHER]


def test_a_line_that_was_torn_off_costs_no_other(file: Path) -> None:
    """Whoever comes next begins one of its own; all can read all the others."""
    file.write_text(line("a") + '["rou')
    one, other = Names(), Names()
    assert of(one, "b") == ["b"]
    assert of(other, "b", "c", "d") == ["b", "c", OTHER]
    assert of(one, "c") == ["c"]


@pytest.mark.parametrize(
    "torn", ["", "[", '["route", "sh["route", "shop", "b"]', "7", "[1, 2, 3]", "\x00\r"]
)
def test_what_is_no_line_is_passed_over(file: Path, torn: str) -> None:
    """By what nobody writes any more, nobody is kept from the rest."""
    file.write_text(f"{line('a')}{torn}\n{line('b')}")
    names = Names()
    assert of(names, *"cab") == [*"cab"]
    assert of(names, "d") == [OTHER]
    assert names.error is None


def test_a_name_that_is_cut_off_is_told_with_the_others(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For good, or it would be counted twice; the next is written as ever."""
    names, write = Names(), os.write

    def short(to: int, text: bytes) -> int:
        return write(to, text[:-4])

    with monkeypatch.context() as patch:
        patch.setattr(naming.os, "write", short)
        assert of(names, "a") == [OTHER]
    assert names.error is not None
    assert file.read_text() == line("a")[:-4]
    assert of(names, "b", "a", "b") == ["b", OTHER, "b"]
    assert of(Names(), "b", "a") == ["b", "a"]
    assert of(names, "a") == [OTHER]


def test_where_no_name_can_be_written_none_is_tried_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there could be; the directory is gone."""
    monkeypatch.setenv(DIRECTORY, str(tmp_path / "gone"))
    names = Names()
    assert of(names, *"abcdefa") == [OTHER] * 7
    assert isinstance(names.error, FileNotFoundError)
    assert names._lost["route", "shop"] == {"a", "b", "c"}
