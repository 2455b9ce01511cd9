"""What people and probes look at: the status page, `/livez` and `/readyz`."""

from pgdbpool.listener import Listener
from pgdbpool.status.app import StatusApp
from pgdbpool.status.health import HealthApp

__all__ = ["HealthApp", "Listener", "StatusApp"]
