"""The middleware: a WSGI request and the connection that stands in its environ."""

from pgdbpool.wsgi.middleware import PoolMiddleware

__all__ = ["PoolMiddleware"]
