"""What the reaper makes of what it is told, without a process or a server."""

import json
import os
from collections.abc import Callable

import pytest

from pgdbpool.gunicorn import reaper
from pgdbpool.gunicorn.reaper import Ledger, Reaper, Target

ONE: Target = {"params": {"host": "one"}, "environ": {}}
TWO: Target = {"params": {"host": "two"}, "environ": {}}


class Server:
    """Ends sessions, fails while it is down, and lets time pass."""

    def __init__(self, failures: int = 0) -> None:
        self.ended: list[tuple[Target, list[str]]] = []
        self.failures = failures
        self.tries = 0
        self.now = 0.0

    def terminate(self, target: Target, tokens: list[str]) -> int:
        """Note what was asked for."""
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("down")
        self.ended.append((target, tokens))
        return len(tokens)

    def clock(self) -> float:
        """Return the seconds slept."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def run(server: Server, *lines: dict[str, object]) -> None:
    """Let a reaper serve these lines and then the end of the pipe."""
    source, sink = os.pipe()
    os.write(sink, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    os.close(sink)
    Reaper(source, -1, server.terminate, server.clock, server.sleep).run()
    os.close(source)


def hello(token: str, target: Target) -> dict[str, object]:
    """Return the line of a worker that works there."""
    return {"hello": token, "target": target}


def test_a_worker_that_is_gone_has_its_sessions_ended() -> None:
    """On each server of its pools."""
    server = Server()
    run(server, hello("a", ONE), hello("a", TWO), {"gone": "a"})
    assert server.ended == [(ONE, ["a"]), (TWO, ["a"])]


def test_the_servers_of_a_worker_come_one_by_one() -> None:
    """Each again when another password leads there; and which it has left."""
    server = Server()
    new: Target = {"params": {"host": "one", "password": "new"}, "environ": {}}
    run(server, hello("a", ONE), hello("a", TWO), hello("a", new), {"gone": "a"})
    assert server.ended == [(TWO, ["a"]), (new, ["a"])]
    server = Server()
    left = {"left": "a", "target": new}
    run(server, hello("a", ONE), hello("a", TWO), left, {"gone": "a"})
    assert server.ended == [(TWO, ["a"])]


def test_a_worker_that_has_left_all_is_looked_for_where_it_was_last() -> None:
    """What comes in that place may not have been heard; a bye is something else."""
    server = Server()
    run(server, hello("a", ONE), {"left": "a", "target": ONE}, {"gone": "a"})
    assert server.ended == [(ONE, ["a"])]


def test_a_worker_that_said_bye_costs_no_login() -> None:
    """It has closed its connections, so nobody needs to look."""
    server = Server()
    run(server, hello("a", ONE), {"bye": "a"}, {"gone": "a"})
    assert server.tries == 0


def test_a_worker_that_never_said_hello_is_looked_for_where_the_others_are() -> None:
    """It may have been killed while it loaded the application."""
    server = Server()
    run(server, hello("a", ONE), {"bye": "a"}, {"gone": "b"})
    assert server.ended == [(ONE, ["b"])]


def test_the_end_of_the_pipe_ends_the_sessions_of_all() -> None:
    """Arbiter and workers were killed, and nobody could tell."""
    server = Server()
    run(server, hello("a", ONE), hello("b", ONE))
    assert server.ended == [(ONE, ["a", "b"])]


def test_what_fails_is_tried_again() -> None:
    """With pauses, until the server is there."""
    server = Server(failures=3)
    run(server, hello("a", ONE))
    assert server.ended == [(ONE, ["a"])]
    assert server.tries == 4


def test_a_server_that_stays_down_does_not_keep_the_reaper(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After the end of the pipe it tries for a few seconds, then says so."""
    server = Server(failures=1000)
    run(server, hello("a", ONE))
    assert server.tries > 2
    assert reaper.GIVE_UP_AT_END_SECONDS <= server.now < 10.0
    assert "gave up ending the sessions of worker a: down" in capsys.readouterr().err


def test_a_server_that_is_down_does_not_hold_up_another() -> None:
    """Each is tried for itself."""
    server = Server()
    down: Callable[[Target, list[str]], int] = server.terminate

    def terminate(target: Target, tokens: list[str]) -> int:
        if target == ONE:
            raise ConnectionError("down")
        return down(target, tokens)

    server.terminate = terminate  # type: ignore[method-assign]
    run(server, hello("a", ONE), hello("b", TWO))
    assert server.ended == [(TWO, ["b"])]


def test_only_the_latest_targets_are_remembered() -> None:
    """A service that reloads with new passwords for ever does not fill memory."""
    ledger = Ledger()
    for i in range(100):
        ledger.see({"params": {"host": str(i)}, "environ": {}})
    ledger.gone("a")
    assert len(ledger.pending["a"]) == reaper.REMEMBERED_TARGETS
    assert ledger.pending["a"][-1]["params"] == {"host": "99"}


def test_of_a_login_the_latest_password_is_remembered() -> None:
    """The others are of no use any more, and would take the place of servers."""
    ledger = Ledger()
    ledger.see(ONE)
    for i in range(100):
        for user in ("app", "reports"):
            login = {"user": user, "password": f"p{i}"}
            ledger.see({"params": {"host": "two", **login}, "environ": {}})
    ledger.gone("a")
    told = [one["params"].get("password") for one in ledger.pending["a"]]
    assert told == [None, "p99", "p99"]


def test_an_error_in_words_is_one_line_without_the_dsn() -> None:
    """What libpq cannot parse it quotes, and that can be the password."""
    error = type("ProgrammingError", (Exception,), {})('missing "=" after "secret"')
    assert "secret" not in reaper._in_words(error)
    assert reaper._in_words(OSError("two\n  lines")) == "two lines"
    assert reaper._in_words(TimeoutError()) == "TimeoutError"
