"""What people and probes look at: the status page, `/livez` and `/readyz`."""

from pgdbpool.status.app import StatusApp
from pgdbpool.status.health import HealthApp

__all__ = ["HealthApp", "StatusApp"]
