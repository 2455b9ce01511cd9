"""The middleware: a WSGI request and the connection that stands in its environ."""

from pgdbpool.wsgi.middleware import PoolMiddleware
from pgdbpool.wsgi.read_your_writes import ReadYourWrites

__all__ = ["PoolMiddleware", "ReadYourWrites"]
