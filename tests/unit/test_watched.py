"""The pools that metrics are about, looked up by who may be a finalizer."""

from types import SimpleNamespace
from typing import Any

from pgdbpool import ConnectionPool, PoolTimeout
from pgdbpool.metrics.prometheus import PrometheusMetrics
from pgdbpool.metrics.tally import Tally
from pgdbpool.metrics.watched import Watched


def make_pool(name: str, **given: Any) -> ConnectionPool:  # noqa: ANN401 - settings
    """Return a pool that connects to nothing."""
    return ConnectionPool("host=127.0.0.1", name=name, observe=True, **given)


def test_one_pool_without_threads_forbids_them_to_all() -> None:
    """A thread would starve where there is none."""
    registry = SimpleNamespace(register=lambda _: None)
    threaded, threadless = make_pool("a"), make_pool("b", threaded=False)
    metrics = PrometheusMetrics(threaded, registry=registry)  # type: ignore[arg-type, unused-ignore]
    assert metrics._needs() == (True, True)
    metrics.add(threadless)
    assert metrics._needs() == (True, False)


def test_the_pools_can_be_looked_up_while_one_is_added() -> None:
    """A finalizer that releases does so, at any place."""
    seen: list[int] = []

    def make(_: ConnectionPool) -> Tally:
        seen.append(len(watched.pairs()))
        return Tally()

    watched = Watched(make)
    first, second = make_pool("a"), make_pool("b")
    watched.add([first])
    watched.add([second])
    assert seen == [0, 1]
    assert [pool for pool, _ in watched.pairs()] == [first, second]


def test_a_finalizer_that_is_refused_is_counted_where_the_tally_is_read() -> None:
    """It would wait for its own thread."""
    tally, hold = Tally(), SimpleNamespace()
    with tally._lock:
        tally.acquired(hold, 0.0, PoolTimeout("none"))  # type: ignore[arg-type, unused-ignore]
    assert tally.refused() == {"PoolTimeout": 1}
