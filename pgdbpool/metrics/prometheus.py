"""Metrics of pools for Prometheus, of this process or of all workers of a service."""

import logging
import os
import re
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pgdbpool.errors import SettingsError
from pgdbpool.metrics.client import (
    DIRECTORY,
    REGISTRY,
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    MultiProcessCollector,
    directory,
    floatToGoString,
    is_shared,
    is_told_by,
    make_wsgi_app,
)
from pgdbpool.metrics.figures import METRICS, Metric, Value, read
from pgdbpool.metrics.tally import Tally
from pgdbpool.metrics.watched import Watched
from pgdbpool.metrics.workers import Publisher, Reading
from pgdbpool.pool import ConnectionPool
from pgdbpool.snapshot import Timings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

_NAMESPACE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_FAMILIES: dict[str, Callable[..., Any]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}


class PrometheusMetrics:
    """Metrics of pools, read from them at each scrape.

    Where ``PROMETHEUS_MULTIPROC_DIR`` is set before prometheus_client is imported, a
    scrape of any process tells of all that have the same directory: of the one that
    answers as it is, of the others as they were at most half a second ago.

    Args:
        *pools: made with ``observe=True``, each with a name of its own. They are not
            kept alive.
        registry: where to register; None for prometheus_client's own. It then tells of
            the pools of all processes.
        namespace: what the names of the metrics begin with.

    Attributes:
        registry: what `app` serves: where it is registered; with several processes and
            none given, all that they have in the directory.

    Raises:
        SettingsError: a pool does not observe, two have one name, the namespace is no
            name, the directory was set too late or is not there.
        ValueError: the registry has these metrics already.
    """

    def __init__(
        self,
        *pools: ConnectionPool,
        registry: CollectorRegistry | None = None,
        namespace: str = "pgdbpool",
    ) -> None:
        _check(registry, namespace)
        self._namespace = namespace
        self._publisher: Publisher | None = None
        self._pools = Watched(self._tally, self._of_others)
        if is_shared():
            self._publisher = Publisher(namespace, self._report, self._needs)
            _sharing.add(self)
        registered = REGISTRY if registry is None else registry
        is_told = is_told_by(registered)
        if not is_told:
            registered.register(self)
        try:
            self._pools.add(pools)
        except BaseException:
            if not is_told:
                registered.unregister(self)
            raise
        self.registry = registered
        if registry is None and self._publisher is not None:
            self.registry = CollectorRegistry()
            MultiProcessCollector(self.registry)

    def add(self, *pools: ConnectionPool) -> None:
        """Tell of more pools.

        Raises:
            SettingsError: as the constructor.
        """
        if self._publisher is not None:
            self._publisher.catch_up()
        self._pools.add(pools)

    def app(self) -> "WSGIApplication":
        """Return a WSGI application that answers scrapes."""
        answer = make_wsgi_app(self.registry)

        def scrape(
            environ: "WSGIEnvironment", start_response: "StartResponse"
        ) -> "Iterable[bytes]":
            if self._publisher is None:
                _warn_of_others(environ)
            else:
                self._publisher.publish()
                if self._publisher.is_listening:
                    self._publisher.begin()
            answered: Iterable[bytes] = answer(environ, start_response)
            return answered

        return scrape

    # What a registry asks of a collector.

    def describe(self) -> Iterator[Any]:
        """Yield the metrics without their figures, so that none is there twice."""
        for metric in METRICS:
            yield self._family(metric)

    def collect(self) -> Iterator[Any]:
        """Yield the metrics as they are now.

        Does not block, but for the files of several processes.
        """
        if self._publisher is not None:
            self._publisher.publish()
            names = {f"{self._namespace}_{metric.name}" for metric in METRICS}
            of_all = MultiProcessCollector(None).collect()
            yield from (family for family in of_all if family.name in names)
            return
        families = {metric: self._family(metric) for metric in METRICS}
        for metric, labels, value in read(self._pools.pairs()):
            _add(families[metric], labels, value)
        yield from families.values()

    def _family(self, metric: Metric) -> Any:  # noqa: ANN401 - of prometheus_client
        name = f"{self._namespace}_{metric.name}"
        return _FAMILIES[metric.kind](name, metric.help, labels=metric.labels)

    def _report(self) -> Reading:
        pairs = self._pools.pairs()
        return read(pairs), {pool.name: tally for pool, tally in pairs}

    def _needs(self) -> tuple[bool, bool]:
        pools = [pool for pool, _ in self._pools.pairs()]
        goes_on = any(not pool.closed for pool in pools)
        return goes_on, all(pool.settings.threaded for pool in pools)

    def _tally(self, _pool: ConnectionPool) -> Tally:
        return Tally(self._publisher)

    def _of_others(self) -> list[ConnectionPool]:
        """Return the pools whose series ours would overwrite in the shared files."""
        others = [
            other
            for other in list(_sharing)
            if other is not self and other._namespace == self._namespace  # noqa: SLF001 - its own
        ]
        return [pool for other in others for pool in other._pools.unfinished()]  # noqa: SLF001 - as above


# Those that share files with each other and with other processes.
_sharing: "weakref.WeakSet[PrometheusMetrics]" = weakref.WeakSet()


def _check(registry: object, namespace: object) -> None:
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise SettingsError(
            f"namespace: {namespace!r} cannot be the beginning of a metric's name"
        )
    if registry is not None and not hasattr(registry, "register"):
        raise SettingsError(f"registry: {registry!r} is not a CollectorRegistry")
    if is_shared():
        if directory() is None:
            raise SettingsError(f"{DIRECTORY} names no directory")
    elif os.environ.get(DIRECTORY):
        raise SettingsError(
            f"{DIRECTORY} was set after prometheus_client was imported, which looks at "
            "it but once; set it in the environment of the service"
        )


_has_warned = False


def _warn_of_others(environ: "WSGIEnvironment") -> None:
    """Say once what a scrape of one process among several tells."""
    global _has_warned  # noqa: PLW0603 - once a process
    if environ.get("wsgi.multiprocess") and not _has_warned:
        _has_warned = True
        logger.warning(
            "the server has several processes, and each scrape tells of the one that "
            "answers it: set %s, or under gunicorn take the hooks of "
            "pgdbpool.gunicorn.metrics",
            DIRECTORY,
        )


def _add(family: Any, labels: tuple[str, ...], value: Value) -> None:  # noqa: ANN401 - of prometheus_client
    if not isinstance(value, Timings):
        family.add_metric(labels, float(value))
        return
    buckets, count = [], 0
    for bound, more in zip((*value.bounds, "+Inf"), value.counts, strict=True):
        count += more
        text = bound if isinstance(bound, str) else floatToGoString(bound)
        buckets.append((text, count))
    family.add_metric(labels, buckets, value.total)
