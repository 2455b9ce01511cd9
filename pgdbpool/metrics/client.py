"""What is used of prometheus_client."""

import contextlib
import os
from pathlib import Path
from typing import Any, Final

from pgdbpool.auth.sdk import missing

try:
    from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app, values
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.utils import floatToGoString
except ImportError:
    raise ImportError(
        missing("pgdbpool.metrics.prometheus", "prometheus-client", "prometheus")
    ) from None

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"

# The files of a process, and their size at first (`mmap_dict.py`).
FILES: Final = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
SIZE: Final = 1 << 16

__all__ = [
    "DIRECTORY",
    "REGISTRY",
    "CollectorRegistry",
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "MultiProcessCollector",
    "directory",
    "floatToGoString",
    "is_shared",
    "is_told_by",
    "make_value",
    "make_wsgi_app",
    "provide_files",
]


def is_shared() -> bool:
    """Whether it is in its mode for several processes, which it decides once."""
    return bool(values.ValueClass._multiprocess)  # noqa: SLF001 - it tells no other way


def directory() -> Path | None:
    """Return where the processes meet; None where there is no such directory."""
    given = os.environ.get(DIRECTORY)
    return Path(given) if given and Path(given).is_dir() else None


def is_told_by(registry: Any) -> bool:  # noqa: ANN401 - of prometheus_client
    """Whether a registry tells of all that is in the directory already."""
    collectors = getattr(registry, "_collector_to_names", ())
    return any(isinstance(one, MultiProcessCollector) for one in collectors)


# Makes one number of a metric, which `set` writes to the file of its process.
make_value = values.ValueClass


def provide_files() -> None:
    """Make the files of this process, where they are not there yet.

    prometheus_client makes them empty and then longer; a scrape that comes in between
    fails ("unpack_from requires a buffer of at least 4 bytes"). May not be called by
    two threads at once.
    """
    for name in FILES:
        path = Path(os.environ[DIRECTORY], f"{name}_{os.getpid()}.db")
        if path.exists():
            continue
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)  # of one who was killed here and had this pid
        try:
            with new.open("xb") as file:
                file.truncate(SIZE)
            # Unless prometheus_client was quicker, or the file system has no links.
            with contextlib.suppress(OSError):
                os.link(new, path)
        finally:
            new.unlink(missing_ok=True)
