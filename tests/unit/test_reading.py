"""What is read again elsewhere, and what is an error of the function's own."""

import sys
from types import SimpleNamespace
from typing import Any, cast

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool.endpoint.entry import Hold
from pgdbpool.endpoint.need import Need
from pgdbpool.errors import CommitUnknown
from pgdbpool.reading import ATTEMPTS, read
from tests.unit.scripted_pool import ScriptedConnection, ScriptedPool


class ScriptedReads(ScriptedPool):
    """A pool of as many servers as there are attempts, each of which serves one.

    Attributes:
        name: for its messages.
        failed: the servers that something was to be read elsewhere than at.
    """

    name = "shop"

    def __init__(self) -> None:
        super().__init__()
        self.failed: list[str] = []

    def serve(self, hold: Hold, _timeout: float | None) -> ScriptedConnection:
        """Give a new connection to the next server."""
        conn: Any = self.acquire(sys._getframe(), None, None)
        conn.hold = hold
        conn.entry = SimpleNamespace(endpoint=f"db{conn.number}")
        return cast("ScriptedConnection", conn)

    def commit(self, conn: ScriptedConnection, *, is_last: bool = False) -> None:
        """Commit what is open, at the end of a block."""
        assert is_last
        super().commit(conn)

    def elsewhere(
        self, need: Need, failed: str, *, is_last: bool
    ) -> tuple[Need, str | None]:
        """Return where to read, and where not."""
        assert is_last == (len(self.failed) == ATTEMPTS - 2)
        self.failed.append(failed)
        return need, failed


class Reader:
    """A function that fails a number of times, and then succeeds."""

    def __init__(self, error: psycopg2.Error | None = None, times: int = 1) -> None:
        self.error = error
        self.times = times

    def __call__(self, conn: ScriptedConnection) -> str:
        """Return whose data these are."""
        conn.cursor().execute("SELECT 1")
        if self.times and self.error is not None:
            self.times -= 1
            raise self.error
        return f"db{conn.number}"


def read_by(pool: ScriptedReads, reader: Reader) -> str:
    """Run a function as the pool does."""
    made = cast("Any", pool)
    return read(made, sys._getframe(), cast("Any", reader), None, strict=False)


def said(code: str) -> psycopg2.Error:
    """Return the error that the driver makes of an answer with this SQLSTATE."""
    error: psycopg2.Error = sqlstate.lookup(code)("canceling statement")
    error.__setstate__({"pgcode": code})  # type: ignore[attr-defined] # as unpickled
    return error


def unknown() -> CommitUnknown:
    """Return what a COMMIT raises that was cancelled; the session lives on."""
    return CommitUnknown("cancelled meanwhile")


@pytest.mark.parametrize("error", [said("40001"), said("40P01"), unknown()], ids=repr)
def test_what_a_living_server_could_not_let_finish_is_read_elsewhere(
    error: psycopg2.Error,
) -> None:
    """A standby cancels with either of two codes; and to read twice does no harm."""
    pool = ScriptedReads()

    assert read_by(pool, Reader(error)) == "db2"

    assert pool.failed == ["db1"]
    assert pool.held == 0


def test_a_cancelled_commit_at_the_end_of_the_block_is_no_end_either() -> None:
    """Whether it was lost or cancelled nobody knows, and nothing was written."""
    pool = ScriptedReads()
    pool.commit_error = unknown()

    assert read_by(pool, Reader()) == "db2"

    assert pool.failed == ["db1"]


def test_it_is_tried_three_times_and_then_the_error_is_the_callers() -> None:
    """The last time at the primary, which no standby's conflict is at."""
    pool = ScriptedReads()
    error = unknown()

    with pytest.raises(CommitUnknown) as caught:
        read_by(pool, Reader(error, times=3))

    assert caught.value is error
    assert pool.failed == ["db1", "db2"]
    assert pool.held == 0


@pytest.mark.parametrize(
    "error",
    [
        said("42P01"),
        said("57014"),
        psycopg2.InterfaceError("cursor already closed"),
    ],
    ids=repr,
)
def test_an_error_of_the_function_is_not_tried_again(error: psycopg2.Error) -> None:
    """It would be the same anywhere."""
    pool = ScriptedReads()

    with pytest.raises(type(error)):
        read_by(pool, Reader(error))

    assert pool.failed == []
    assert pool.held == 0
