"""One scrape is the whole service, whichever worker answers it."""

import http.client
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from pgdbpool.demo.postgres import HOST
from tests.gunicorns import Gunicorn, asking, is_alive
from tests.metering import NAME
from tests.waiting import until

pytestmark = pytest.mark.direct("its pools are in other processes")

CONF = """
from pgdbpool.gunicorn.metrics import *
control_socket_disable = True
graceful_timeout = 5
"""
# What is run as a module cannot be run again by its path.
UPGRADED = (
    CONF
    + """
def pre_exec(server):
    server.START_CTX["args"][1:2] = ["-m", "gunicorn"]
"""
)
APP = "tests.metered_app:eager()"
WORKERS = 8
ROUTE = 'route="GET /"'
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
LEFT = ("counter_4711.db", "gauge_livesum_4711.db", "summary_1.db", "histogram_2.db")
MINE = ("README", "orders.db", "counter_of_visitors.db", "gauge_1.db")


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
    for name in LEFT:
        (directory / name).write_bytes(b"of another time")
    for name in MINE:
        (directory / name).write_text("mine")
    environ = {DIRECTORY: str(directory)}
    with Metered(tmp_path, dsn, conf=CONF, app=APP, environ=environ) as gunicorn:
        gunicorn.wait()
        assert not any((directory / name).exists() for name in LEFT)
    assert all((directory / name).read_text() == "mine" for name in MINE)


def test_a_directory_of_its_own_goes_with_the_service(tmp_path: Path, dsn: str) -> None:
    """It is there without being asked for, for the account of the service alone."""
    environ = {"TMPDIR": str(tmp_path)}
    with Metered(tmp_path, dsn, conf=CONF, app=APP, environ=environ) as gunicorn:
        gunicorn.wait()
        (directory,) = tmp_path.glob("pgdbpool-metrics-*")
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()


def test_an_empty_variable_is_none(tmp_path: Path, dsn: str) -> None:
    """It does not mean the working directory, whose files stay."""
    for name in ("orders.db", "counter_4711.db"):
        (tmp_path / name).write_text("mine")
    environ = {DIRECTORY: "", "TMPDIR": str(tmp_path)}
    options = ["--chdir", str(tmp_path)]
    with Metered(
        tmp_path, dsn, *options, conf=CONF, app=APP, environ=environ
    ) as gunicorn:
        gunicorn.wait_for(1)
        assert (tmp_path / "orders.db").read_text() == "mine"
        assert (tmp_path / "counter_4711.db").read_text() == "mine"


def test_a_worker_is_counted_from_its_start(tmp_path: Path, dsn: str) -> None:
    """Without a request, a scrape or a connection."""
    shared, files = tmp_path / "shared", CollectorRegistry()
    shared.mkdir()
    MultiProcessCollector(files, path=str(shared))
    with Metered(
        tmp_path,
        dsn,
        *("-w", "2"),
        conf=CONF,
        app=APP,
        pool={"min_size": 0},
        environ={DIRECTORY: str(shared)},
    ):
        name, labels = "pgdbpool_max_connections", {"pool": NAME}
        until(lambda: files.get_sample_value(name, labels) == 2, 30.0)


def test_an_arbiter_whose_pool_is_open_is_not_counted(tmp_path: Path, dsn: str) -> None:
    """The application is preloaded, and has been scraped there."""
    options = ["-w", "2", "--preload"]
    app, pool = "tests.metered_app:opened()", {"min_size": 1}
    with Metered(tmp_path, dsn, *options, conf=CONF, app=app, pool=pool) as gunicorn:
        gunicorn.wait_for(2)
        until(lambda: len(gunicorn.workers()) == 2)
        assert gunicorn.total("max_connections") == 2
        assert gunicorn.total("endpoint_state") == 2


def upgrade(gunicorn: Metered, pidfile: Path) -> int:
    """Replace the arbiter on the fly; return the id of the new one."""
    gunicorn.signal(signal.SIGUSR2)
    new = Path(f"{pidfile}.2")
    until(lambda: new.exists() and new.read_text().strip(), 20.0)
    pid = int(new.read_text())
    until(lambda: psutil.Process(pid).children(), 20.0)
    gunicorn.signal(signal.SIGQUIT)
    gunicorn.process.wait(20)
    return pid


@pytest.mark.parametrize("is_given", [False, True], ids=["temporary", "given"])
def test_metrics_outlive_a_reload_and_an_upgrade(
    tmp_path: Path, dsn: str, *, is_given: bool
) -> None:
    """In a directory that was given, with what was counted before."""
    shared, pidfile = tmp_path / "shared", tmp_path / "pid"
    environ = {DIRECTORY: str(shared)} if is_given else {"TMPDIR": str(tmp_path)}
    options = ["-w", "1", "--pid", str(pidfile)]
    with Metered(
        tmp_path, dsn, *options, conf=UPGRADED, app=APP, environ=environ
    ) as gunicorn:
        gunicorn.wait_for(1)
        gunicorn.ask_often(5)
        (before,) = gunicorn.workers()
        gunicorn.signal(signal.SIGHUP)
        until(lambda: before.pid not in {one.pid for one in gunicorn.workers()}, 20.0)
        until(lambda: gunicorn.served() == 5)
        arbiter = psutil.Process(upgrade(gunicorn, pidfile))
        try:
            gunicorn.wait_for(1)
            assert gunicorn.served() == (5 if is_given else 0)
            gunicorn.ask_often(3)
            until(lambda: gunicorn.served() == (8 if is_given else 3))
        finally:
            arbiter.terminate()
            until(lambda: not is_alive(arbiter), 20.0)
    assert shared.exists() == is_given
    assert list(tmp_path.glob("pgdbpool-metrics-*")) == []
