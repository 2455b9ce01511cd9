"""What is used of prometheus_client."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

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
    "floatToGoString",
    "is_shared",
    "make_value",
    "make_wsgi_app",
    "provide_files",
]


def is_shared() -> bool:
    """Whether it is in its mode for several processes, which it decides once."""
    return bool(values.ValueClass._multiprocess)  # noqa: SLF001 - it tells no other way


# Makes one number of a metric, which `set` writes to the file of its process.
make_value = values.ValueClass


def provide_files() -> None:
    """Make the files of this process, where they are not there yet.

    prometheus_client makes them empty and then longer; a scrape that comes in between
    fails ("unpack_from requires a buffer of at least 4 bytes").
    """
    directory, pid = os.environ[DIRECTORY], os.getpid()
    for name in FILES:
        path = Path(directory, f"{name}_{pid}.db")
        if path.exists():
            continue
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            file.truncate(SIZE)
            # Unless another thread was quicker, or the file system has no links.
            with contextlib.suppress(OSError):
                os.link(file.name, path)
