"""The status page under gunicorn: the whole service, whichever worker answers."""

import json
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pgdbpool.demo.postgres import EmbeddedPostgres
from pgdbpool.status.server import PAUSE
from tests.asking import LOGGED
from tests.gunicorns import CONF, GREEN_CONF, Gunicorn, asking
from tests.status_app import PAGE, TENANTS
from tests.waiting import let_pass, until

pytestmark = pytest.mark.direct("its pools are in other processes")

APP = "tests.status_app:make()"
SLEEPING = ("active", "PgSleep")
POOL: dict[str, object] = {"name": "shop", "min_size": 1, "max_size": 3}


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a directory for temporary files that nobody else uses."""
    with tempfile.TemporaryDirectory(prefix="status-", dir="/tmp") as name:
        yield Path(name)


def serve(directory: Path, dsn: str, *options: str, **more: Any) -> Gunicorn:  # noqa: ANN401 - of `Gunicorn`
    """Start two workers with the page."""
    environ = {"TMPDIR": str(directory), **more.pop("environ", {})}
    options = ("-w", "2", "--threads", "3", *options)
    more = {"app": APP, "pool": POOL, **more}
    return Gunicorn(directory, dsn, *options, environ=environ, **more)


def look(gunicorn: Gunicorn) -> dict[str, Any]:
    """Return what the page shows."""
    status, content = gunicorn.get(f"{PAGE}/status.json")
    assert status == 200
    return content


def workers(gunicorn: Gunicorn) -> dict[int, bool]:
    """Return which workers the page knows, and whether they answer."""
    return {one["pid"]: one["answers"] for one in look(gunicorn)["workers"]}


def pids(gunicorn: Gunicorn) -> set[int]:
    """Return the workers that run."""
    return {process.pid for process in gunicorn.workers()}


def wait_whole(gunicorn: Gunicorn) -> None:
    """Wait until the page shows both workers, and no other."""

    def is_whole() -> bool:
        found = workers(gunicorn)
        return len(found) == 2 and all(found.values()) and set(found) == pids(gunicorn)

    gunicorn.wait()
    until(is_whole, 20.0, "the page shows both workers")


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["plain", "preload"])
@pytest.mark.parametrize(
    ("kind", "conf"),
    [("sync", CONF), ("gthread", CONF), ("gevent", GREEN_CONF)],
    ids=["sync", "gthread", "gevent"],
)
def test_any_worker_shows_all_and_nothing_is_left(
    place: Path, dsn: str, kind: str, conf: str, preload: tuple[str, ...]
) -> None:
    """Failure mode 25: the counts of both, and later no file of theirs."""
    with serve(place, dsn, "-k", kind, *preload, conf=conf) as gunicorn:
        wait_whole(gunicorn)
        for _ in range(8):
            assert gunicorn.status() == 200

        def counted() -> int:
            pools = [pool for one in look(gunicorn)["workers"] for pool in one["pools"]]
            assert {pool["name"] for pool in pools} == {"shop"}
            return sum(pool["counts"]["requests_num"] for pool in pools)

        assert counted() >= 8
        (directory,) = place.glob("pgdbpool-*")
        assert directory.stat().st_mode & 0o777 == 0o700
        assert len(list(directory.iterdir())) == 2
    assert list(place.glob("pgdbpool-*")) == []


def test_a_killed_worker_disappears(place: Path, dsn: str) -> None:
    """Its successor takes its place."""
    with serve(place, dsn) as gunicorn:
        wait_whole(gunicorn)
        victim = gunicorn.workers()[0]
        victim.kill()
        until(lambda: victim.pid not in workers(gunicorn))
        wait_whole(gunicorn)


def test_a_frozen_worker_is_silent_and_the_page_is_not(place: Path, dsn: str) -> None:
    """It is named, and counts again when it goes on."""
    with serve(place, dsn, "--timeout", "0") as gunicorn:
        wait_whole(gunicorn)
        victim = gunicorn.workers()[0]
        victim.suspend()
        try:
            # What the frozen one has accepted is answered by nobody.
            until(lambda: _answer_beside(gunicorn).get(victim.pid) is False)
        finally:
            victim.resume()
        wait_whole(gunicorn)


def _answer_beside(gunicorn: Gunicorn) -> dict[int, bool]:
    try:
        content = gunicorn.get(f"{PAGE}/status.json", timeout=2.0)[1]
    except OSError:
        return {}
    return {one["pid"]: one["answers"] for one in content["workers"]}


def test_the_history_is_of_all_workers(place: Path, dsn: str) -> None:
    """Each second's sum, from the first look on."""
    with serve(place, dsn) as gunicorn:
        wait_whole(gunicorn)
        for _ in range(20):
            assert gunicorn.status() == 200

        def acquires() -> int:
            history = look(gunicorn)["history"]
            rows = [
                dict(zip(history["columns"], row, strict=True))
                for row in history["pools"].get("shop", ())
            ]
            seconds = [row["second"] for row in rows]
            assert seconds == sorted(set(seconds))
            return sum(row["acquires"] for row in rows)

        until(lambda: acquires() >= 20, message="the requests are in the history")
        newest = look(gunicorn)["history"]["pools"]["shop"][-1][0]
        later = gunicorn.get(f"{PAGE}/status.json?since={newest}")[1]
        assert all(row[0] > newest for row in later["history"]["pools"]["shop"])


def test_a_holder_is_shown_whoever_has_it(place: Path, dsn: str) -> None:
    """With route, place and backend; the server sees the same session."""
    with serve(place, dsn) as gunicorn:
        wait_whole(gunicorn)
        with asking(gunicorn, "/?seconds=5&secret=hunter2"):
            holder = until(lambda: _holders(gunicorn))[0]
            assert holder["request"] == "GET /"
            assert holder["place"].startswith("tests/gunicorn_app.py:")

            def sessions() -> dict[int, Any]:
                seen = look(gunicorn)["server"]
                return {one["pid"]: one for each in seen for one in each["sessions"]}

            def is_seen() -> bool:
                found = sessions().get(holder["backend_pid"], {})
                return (found.get("state"), found.get("wait_event")) == SLEEPING

            until(is_seen, message="the server sees it too")

            def names() -> set[str]:
                return {one["application_name"] for one in sessions().values()}

            until(lambda: len(names()) == 2, message="the sessions of both workers")
            text = str(look(gunicorn))
            assert "hunter2" not in text
            assert "pg_sleep" not in text


def _holders(gunicorn: Gunicorn) -> list[dict[str, Any]]:
    return [
        session["holder"]
        for one in look(gunicorn)["workers"]
        for pool in one["pools"]
        for session in pool["sessions"]
        if session["holder"] and session["holder"]["request"] == "GET /"
    ]


def test_the_page_needs_no_database(
    place: Path, private_server: EmbeddedPostgres
) -> None:
    """It says that there is none, and then that there is."""
    with serve(place, private_server.dsn()) as gunicorn:
        wait_whole(gunicorn)
        private_server.stop("immediate")

        def states() -> set[bool]:
            return {
                pool["health"]["write_ready"]
                for one in look(gunicorn)["workers"]
                for pool in one["pools"]
            }

        until(lambda: states() == {False})
        assert gunicorn.status(f"{PAGE}/") == 200
        assert gunicorn.status("/health/readyz") == 503
        assert gunicorn.status("/health/livez") == 200
        private_server.start()
        until(lambda: states() == {True})


@pytest.mark.slow
def test_more_workers_do_not_ask_the_server_more_often(
    place: Path, private_server: EmbeddedPostgres
) -> None:
    """Whichever serves, it goes by what another has learned."""
    dsn = private_server.dsn(options=LOGGED)
    seconds = 6.0
    with serve(place, dsn, "-w", "4") as gunicorn:
        gunicorn.wait()
        until(lambda: all(workers(gunicorn).values()) and len(workers(gunicorn)) == 4)
        began = time.monotonic()
        before = questions(private_server)
        while time.monotonic() < began + seconds:
            look(gunicorn)
            let_pass(0.2)
        asked = questions(private_server) - before
        took = time.monotonic() - began
    # Two workers in a row may find that it is time, before one has its answer.
    assert 1 <= asked <= 2 * (took / PAUSE + 1)


def questions(server: EmbeddedPostgres) -> int:
    """Return how often the page has asked for the sessions."""
    return server.log.count("FROM pg_stat_activity, shape")


def test_two_pages_of_one_service_show_each_their_own(place: Path, dsn: str) -> None:
    """Whichever worker answers, and whatever it was that it made last."""
    with serve(place, dsn, app="tests.status_app:make_two()") as gunicorn:
        gunicorn.wait()
        for name in TENANTS:
            for _ in range(6):
                until(lambda name=name: is_whole(gunicorn, name), 20.0, "both show it")


def is_whole(gunicorn: Gunicorn, name: str) -> bool:
    """Whether both workers show a tenant's pool on its page; nobody shows another."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gunicorn.port}/{name}/status.json",
        headers={"Authorization": f"Bearer {TENANTS[name]}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
        content = json.load(answer)
    shown = [[pool["name"] for pool in one["pools"]] for one in content["workers"]]
    assert {each for one in shown for each in one} == {f"tenant-{name}"}
    assert set(content["history"]["pools"]) <= {f"tenant-{name}"}
    assert {one["pool"] for one in content["server"]} <= {f"tenant-{name}"}
    return shown == [[f"tenant-{name}"]] * 2


def test_a_probe_is_answered_fast_while_all_connections_are_in_use(
    place: Path, dsn: str
) -> None:
    """Failure mode 26, as an orchestrator sees it."""
    pool = {**POOL, "max_size": 1, "timeout": 1}
    with serve(place, dsn, "-w", "1", pool=pool) as gunicorn:
        gunicorn.wait()
        assert gunicorn.status("/leak") == 200
        took = []
        for _ in range(20):
            began = time.perf_counter()
            status, answer = gunicorn.get("/health/readyz")
            took.append(time.perf_counter() - began)
            assert status == 200
            assert answer["saturated"]
            assert answer["pools"]["shop"]["write_ready"]
        # The best of some: this machine may have been busy with others.
        assert min(took) < 0.05


def test_without_a_page_there_is_nothing(place: Path, dsn: str) -> None:
    """No directory, no socket."""
    with serve(place, dsn, app="tests.gunicorn_app:eager()") as gunicorn:
        gunicorn.wait()
        assert list(place.glob("pgdbpool-*")) == []
        for worker in gunicorn.workers():
            assert [
                c for c in worker.net_connections("unix") if str(place) in c.laddr
            ] == []


def test_an_arbiter_that_is_killed_leaves_nothing_of_the_page(
    place: Path, dsn: str
) -> None:
    """The last worker takes the directory along."""
    with serve(place, dsn) as gunicorn:
        wait_whole(gunicorn)
        family = gunicorn.family()
        gunicorn.signal(signal.SIGKILL)
        gunicorn.process.wait(10)
        psutil.wait_procs(family, 20)
        assert list(place.glob("pgdbpool-*")) == []
