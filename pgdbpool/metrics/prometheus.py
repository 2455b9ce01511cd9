"""Metrics of pools for Prometheus, of this process or of all workers of a service."""

import os
import re
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
    floatToGoString,
    is_shared,
    make_wsgi_app,
)
from pgdbpool.metrics.figures import METRICS, Metric, Value, read
from pgdbpool.metrics.tally import Tally
from pgdbpool.metrics.watched import Watched
from pgdbpool.metrics.workers import Publisher
from pgdbpool.pool import ConnectionPool
from pgdbpool.snapshot import Timings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

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
        registry: where to register; None for prometheus_client's own, or with
            several processes for one of ours.
        namespace: what the names of the metrics begin with.

    Attributes:
        registry: what `app` serves.

    Raises:
        SettingsError: a pool does not observe, two have one name, the namespace is no
            name, or the directory was set too late.
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
        if is_shared():
            self._publisher = Publisher(namespace, self._read, self._needs)
        self._pools = Watched(self._tally)
        self._pools.add(pools)
        if self._publisher is None:
            self.registry = REGISTRY if registry is None else registry
            self.registry.register(self)
        elif registry is None:
            self.registry = CollectorRegistry()
            MultiProcessCollector(self.registry)
        else:
            self.registry = registry

    def add(self, *pools: ConnectionPool) -> None:
        """Tell of more pools.

        Raises:
            SettingsError: as the constructor.
        """
        self._pools.add(pools)

    def app(self) -> "WSGIApplication":
        """Return a WSGI application that answers scrapes."""
        answer = make_wsgi_app(self.registry)

        def scrape(
            environ: "WSGIEnvironment", start_response: "StartResponse"
        ) -> "Iterable[bytes]":
            if self._publisher is not None:
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
        """Yield the metrics as they are now. Does not block."""
        families = {metric: self._family(metric) for metric in METRICS}
        for metric, labels, value in self._read():
            _add(families[metric], labels, value)
        yield from families.values()

    def _family(self, metric: Metric) -> Any:  # noqa: ANN401 - of prometheus_client
        name = f"{self._namespace}_{metric.name}"
        return _FAMILIES[metric.kind](name, metric.help, labels=metric.labels)

    def _read(self) -> list[Any]:
        return read(self._pools.pairs())

    def _needs(self) -> tuple[bool, bool]:
        pools = [pool for pool, _ in self._pools.pairs()]
        goes_on = any(not pool.closed for pool in pools)
        return goes_on, all(pool.settings.threaded for pool in pools)

    def _tally(self, _pool: ConnectionPool) -> Tally:
        return Tally(self._publisher)


def _check(registry: object, namespace: object) -> None:
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise SettingsError(
            f"namespace: {namespace!r} cannot be the beginning of a metric's name"
        )
    if registry is not None and not hasattr(registry, "register"):
        raise SettingsError(f"registry: {registry!r} is not a CollectorRegistry")
    if DIRECTORY in os.environ and not is_shared():
        raise SettingsError(
            f"{DIRECTORY} was set after prometheus_client was imported, which looks at "
            "it but once; set it in the environment of the service"
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
