"""What the tests of metrics that processes share run in processes of its own.

The database is in APP_DSN, the directory in PROMETHEUS_MULTIPROC_DIR.
"""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import shutil
import signal
import stat
import string
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from pgdbpool import SettingsError
from pgdbpool.metrics.client import DIRECTORY
from pgdbpool.metrics.figures import ACQUIRES
from pgdbpool.metrics.prometheus import PrometheusMetrics
from tests.metering import NAME, hold, metered
from tests.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgdbpool import ConnectionPool

PROCESSES = 10


def make_pool(**given: object) -> ConnectionPool:
    """Return a pool that connects to the server of the test."""
    return metered(os.environ["APP_DSN"], **given)


def scrape(metrics: PrometheusMetrics) -> list[str]:
    """Return the series of a scrape, of which each is there once."""
    answered = metrics.app()({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, _start)
    lines = b"".join(answered).decode().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)
    return lines


def _start(*_: object) -> None:  # type: ignore[misc, unused-ignore]
    """Take note of nothing."""


def total(metrics: PrometheusMetrics, name: str) -> float:
    """Return the sum of all series of a metric."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in scrape(metrics)
        if line.startswith(f"pgdbpool_{name}{{")
    )


@contextmanager
def in_child() -> Iterator[bool]:
    """Fork; the block is for the child, which then ends as a process does."""
    child = os.fork()
    yield not child
    if not child:
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0


def rising() -> dict[str, object]:
    """Count what was acquired, with all that could make it less."""
    file = MmapedDict(f"{os.environ[DIRECTORY]}/counter_{os.getpid()}.db")
    names = ("pgdbpool_acquires", "pgdbpool_acquires_total")
    file.write_value(mmap_key(*names, ["pool"], [NAME], ACQUIRES.help), 100.0, 0.0)
    file.close()
    pool = make_pool()
    metrics, told = PrometheusMetrics(pool), []

    def count(times: int) -> None:
        for _ in range(times):
            hold(pool)
        told.append(total(metrics, "acquires_total"))

    count(5)
    pool.pop_stats()
    count(1)
    hold(pool)  # which nobody has seen when the pool is replaced
    pool.close()
    pool = make_pool()
    metrics.add(pool)
    count(10)
    opened = total(metrics, "connections_opened_total")
    holds = total(metrics, "hold_seconds_count")
    pool.close()
    return {"acquires": told, "opened": opened, "holds": holds}


def finalizing() -> dict[str, object]:
    """Let the collector end a hold wherever a number is written."""
    pool = make_pool(threaded=False, max_size=3)
    metrics, counter = PrometheusMetrics(pool), Counter("mine", "Of the application.")

    def rows() -> Iterator[object]:
        with pool.connection() as conn, conn.cursor() as cur:
            cur.execute("SELECT generate_series(1, 3)")
            yield from cur

    def leave() -> None:
        begun = rows()
        next(begun)
        cycle: dict[str, object] = {"begun": begun}
        cycle["me"] = cycle

    write, ended = MmapedDict.write_value, []

    def collect(*args: Any) -> None:  # noqa: ANN401 - of prometheus_client
        ended.append(gc.collect() > 0)
        write(*args)

    gc.disable()
    leave()
    metrics._publisher.publish()  # type: ignore[union-attr, unused-ignore]
    MmapedDict.write_value = collect
    counter.inc()
    leave()
    hold(pool)
    scrape(metrics)
    gc.enable()
    return {"ended": sum(ended), "in use": len(pool.holders())}


def registries() -> dict[str, object]:
    """Ask registries of the application for what another process has done."""
    pool, mine, all_files = make_pool(), CollectorRegistry(), CollectorRegistry()
    Counter("mine", "Of the application.", registry=mine).inc()
    MultiProcessCollector(all_files)
    metrics = PrometheusMetrics(pool, registry=mine)
    again = PrometheusMetrics(make_pool(name="other"))
    third = PrometheusMetrics(make_pool(name="third"), registry=all_files)
    with in_child() as is_child:
        if is_child:
            hold(pool)
    hold(pool)
    name, labels = "pgdbpool_acquires_total", {"pool": NAME}
    asked = (mine, REGISTRY, all_files, again.registry)
    told = [registry.get_sample_value(name, labels) for registry in asked]
    scrape(metrics)
    return {
        "acquires": told,
        "mine": mine.get_sample_value("mine_total"),
        "all files": len(scrape(third)) > 0,
    }


def twice() -> dict[str, object]:
    """Give a pool, and the name of one, to two metrics that share files."""
    pool, told = make_pool(), []
    metrics = PrometheusMetrics(pool)
    for number, given in enumerate((pool, make_pool())):
        for namespace in ("pgdbpool", f"other_{number}"):
            try:
                PrometheusMetrics(
                    given, registry=CollectorRegistry(), namespace=namespace
                )
            except SettingsError as error:
                told.append(str(error)[:22])
    pool.close()
    PrometheusMetrics(make_pool(), registry=CollectorRegistry())
    return {"told": told, "scraped": len(scrape(metrics)) > 0}


def _work(pool: ConnectionPool) -> None:
    hold(pool)


def leaving() -> dict[str, object]:
    """Scrape after a child has ended; then after another pool has come."""
    pool = make_pool()
    metrics = PrometheusMetrics(pool)
    scrape(metrics)

    def gauges() -> list[float]:
        names = ("max_connections", "connections", "endpoint_state")
        return [total(metrics, name) for name in names]

    with in_child() as is_child:
        if is_child:
            hold(pool)
            scrape(metrics)
    told = [gauges()]
    work = multiprocessing.get_context("fork").Process(target=_work, args=(pool,))
    work.start()
    work.join()
    told.append([*gauges(), total(metrics, "acquires_total")])
    conn = pool.getconn()
    scrape(metrics)
    pool.putconn(conn)
    pool.close()
    del pool, conn
    gc.collect()
    other = make_pool(name="other", max_size=2)
    metrics.add(other)
    told.append(gauges())
    other.close()
    return {"gauges": told}


def forking() -> dict[str, object]:
    """Fork while another thread writes; the children publish."""
    pool = make_pool()
    metrics = PrometheusMetrics(pool)
    hold(pool)
    write, is_writing = MmapedDict.write_value, threading.Event()

    def slow(*args: Any) -> None:  # noqa: ANN401 - of prometheus_client
        is_writing.set()
        let_pass(0.02)
        write(*args)

    MmapedDict.write_value = slow
    thread = threading.Thread(target=scrape, args=(metrics,))
    thread.start()
    is_writing.wait()
    child = os.fork()
    MmapedDict.write_value = write
    if not child:
        signal.alarm(60)  # no machine stands still for so long
        hold(pool)
        scrape(metrics)
        sys.exit()
    thread.join()
    return {"child": os.waitpid(child, 0)[1]}


def ageing() -> dict[str, object]:
    """See in the files how old the figures are."""
    pool, files = make_pool(), CollectorRegistry()
    PrometheusMetrics(pool)
    MultiProcessCollector(files)

    def is_told(times: int) -> bool:
        told = files.get_sample_value("pgdbpool_acquires_total", {"pool": NAME})
        return told == times

    hold(pool)
    until(lambda: is_told(1))
    began = monotonic()
    hold(pool)
    until(lambda: is_told(2))
    return {"seconds": monotonic() - began}


def unwritable() -> dict[str, object]:
    """Acquire and scrape while the directory is not there."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.levelname)  # type: ignore[assignment]
    logger = logging.getLogger("pgdbpool.metrics")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    directory = Path(os.environ[DIRECTORY])
    pool = make_pool(threaded=False)
    metrics = PrometheusMetrics(pool)
    shutil.rmtree(directory)
    hold(pool)
    answered = len(scrape(metrics))
    directory.mkdir()
    return {"before": answered, "after": len(scrape(metrics)) > 0, "logged": logged}


def modes() -> dict[str, object]:
    """Make the files with a umask of their own."""
    os.umask(0o027)
    pool = make_pool()
    metrics = PrometheusMetrics(pool)
    hold(pool)
    scrape(metrics)
    files = list(Path(os.environ[DIRECTORY]).iterdir())
    return {
        "modes": sorted({stat.S_IMODE(file.stat().st_mode) for file in files}),
        "kinds": sorted({file.name.rpartition("_")[0] for file in files}),
    }


def routing() -> dict[str, object]:
    """Let processes come and go, each with routes of its own."""
    pool = make_pool()
    metrics = PrometheusMetrics(pool)
    for letter in string.ascii_lowercase[:PROCESSES]:
        with in_child() as is_child:
            if is_child:
                for number in range(30):
                    conn = pool.acquire(request=f"GET /{letter * (number + 1)}")
                    pool.release(conn, conn.hold)
                scrape(metrics)
    ended = [os.path.basename(f) for f in Path(os.environ[DIRECTORY]).glob("c*.db")]  # noqa: PTH119 - a name
    for name in ended:
        mark_process_dead(name.rpartition("_")[2].removesuffix(".db"))
    lines = [line for line in scrape(metrics) if "hold_seconds_count" in line]
    return {
        "routes": len(lines),
        "holds": sum(float(line.rpartition(" ")[2]) for line in lines),
    }


if __name__ == "__main__":
    told = globals()[sys.argv[1]]()
    sys.stdout.write(json.dumps(told))
    sys.stdout.flush()
