"""One scrape is the whole service, whichever worker answers it."""

import http.client
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pgdbpool.demo.postgres import HOST
from tests.gunicorns import Gunicorn, asking
from tests.metering import NAME
from tests.waiting import until

pytestmark = pytest.mark.direct("its pools are in other processes")

CONF = """
from pgdbpool.gunicorn.metrics import *
control_socket_disable = True
graceful_timeout = 5
"""
APP = "tests.metered_app:eager()"
WORKERS = 8
ROUTE = 'route="GET /"'
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class Metered(Gunicorn):
    """A gunicorn whose application has metrics."""

    def scrape(self) -> dict[str, float]:
        """Return all series of one scrape, of which each is there once."""
        conn = http.client.HTTPConnection(HOST, self.port, timeout=30.0)
        try:
            conn.request("GET", "/metrics", headers={"Connection": "close"})
            text = conn.getresponse().read().decode()
        finally:
            conn.close()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        found = {name: float(value) for name, _, value in _split(lines)}
        assert len(found) == len(lines)
        return found

    def total(self, name: str, *labels: str) -> float:
        """Return the sum of the series of a metric that have some labels."""
        wanted = (f'pool="{NAME}"', *labels)
        return sum(
            value
            for series, value in self.scrape().items()
            if series.startswith(f"pgdbpool_{name}{{")
            and all(label in series for label in wanted)
        )

    def wait_for(self, workers: int) -> None:
        """Wait until so many workers are counted, without a request of theirs."""

        def are_counted() -> bool:
            try:
                return self.total("max_connections") == workers
            except OSError:  # nobody listens yet
                return False

        until(are_counted, 30.0)

    def served(self) -> float:
        """Return how many requests have ended, by the metrics."""
        return self.total("hold_seconds_count", ROUTE)

    def ask_often(self, times: int) -> dict[int, int]:
        """Ask that often, several at a time; return how often each worker answered."""
        found: dict[int, int] = {}
        with ThreadPoolExecutor(WORKERS) as executor:
            for _, body in executor.map(self.get, ["/?seconds=0.01"] * times):
                found[body["worker"]] = found.get(body["worker"], 0) + 1
        return found


def _split(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.rpartition(" ") for line in lines]


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["plain", "preload"])
@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_one_scrape_is_the_sum_of_all_workers(
    tmp_path: Path, dsn: str, kind: str, preload: tuple[str, ...]
) -> None:
    """Acquires, waits and connections of eight workers; the arbiter is not counted."""
    options = ["-k", kind, "-w", str(WORKERS), "--threads", "1", *preload]
    with Metered(tmp_path, dsn, *options, conf=CONF, app=APP) as gunicorn:
        gunicorn.wait_for(WORKERS)
        asked: dict[int, int] = {}

        def all_have_answered() -> bool:
            for worker, times in gunicorn.ask_often(4 * WORKERS).items():
                asked[worker] = asked.get(worker, 0) + times
            return len(asked) == WORKERS

        until(all_have_answered, 30.0)
        requests = sum(asked.values())

        until(lambda: gunicorn.served() == requests)
        assert gunicorn.total("wait_seconds_count", ROUTE) == requests
        assert gunicorn.total("acquires_total") == gunicorn.total("hold_seconds_count")
        assert gunicorn.total("connections", 'state="idle"') == WORKERS
        assert gunicorn.total("connections", 'state="in_use"') == 0
        assert gunicorn.total("connections_opened_total") == WORKERS
        assert gunicorn.total("endpoint_state", 'state="up"') == WORKERS
        assert gunicorn.total("max_connections") == WORKERS


def test_a_killed_worker_disappears_and_what_it_did_stays(
    tmp_path: Path, dsn: str
) -> None:
    """Its connection is in use no more; its requests were made all the same."""
    options = ["-k", "sync", "-w", "2"]
    with Metered(tmp_path, dsn, *options, conf=CONF, app=APP) as gunicorn:
        gunicorn.wait_for(2)
        requests = sum(gunicorn.ask_often(10).values())
        until(lambda: gunicorn.served() == requests)
        before = {worker.pid for worker in gunicorn.workers()}

        with asking(gunicorn, "/?seconds=25"):
            until(lambda: gunicorn.total("connections", 'state="in_use"') == 1)
            (idle,) = {gunicorn.get()[1]["worker"]}
            (busy,) = before - {idle}
            psutil.Process(busy).kill()
            until(lambda: gunicorn.total("connections", 'state="in_use"') == 0)

        gunicorn.wait_for(2)
        until(lambda: gunicorn.served() == requests + 1)


def test_the_directory_is_emptied_at_the_start(tmp_path: Path, dsn: str) -> None:
    """What an earlier service has left there is not told; other files stay."""
    directory = tmp_path / "shared"
    directory.mkdir()
    (directory / "counter_4711.db").write_bytes(b"of another time")
    (directory / "README").write_text("mine")
    environ = {DIRECTORY: str(directory)}
    with Metered(tmp_path, dsn, conf=CONF, app=APP, environ=environ) as gunicorn:
        gunicorn.wait()
        gunicorn.wait_for(1)
        assert not (directory / "counter_4711.db").exists()
    assert (directory / "README").read_text() == "mine"


def test_a_directory_of_its_own_goes_with_the_service(tmp_path: Path, dsn: str) -> None:
    """It is there without being asked for, for the account of the service alone."""
    environ = {"TMPDIR": str(tmp_path)}
    with Metered(tmp_path, dsn, conf=CONF, app=APP, environ=environ) as gunicorn:
        gunicorn.wait()
        (directory,) = tmp_path.glob("pgdbpool-metrics-*")
        assert re.fullmatch("pgdbpool-metrics-.+", directory.name)
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()
