"""A comment at the end of each statement that tells the route of its request.

The form is sqlcommenter's (its specification, "Key Value format"): ``/*route='…'*/``,
the value percent-encoded. It stands in the server's log and in ``pg_stat_activity``;
``pg_stat_statements`` takes statements for the same that differ only in it.
"""

import functools
from typing import Any
from urllib.parse import quote

from psycopg2 import extensions as driver
from psycopg2 import sql

from pgdbpool.endpoint.entry import Hold
from pgdbpool.histograms import route_of

Query = str | bytes | sql.Composable


class Commenting(driver.connection):
    """Makes cursors that say for which route they work.

    It stands below the user's class, which may choose the cursors.
    """

    __slots__ = ()

    def cursor(
        self, name: Any = None, cursor_factory: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Return a new cursor, as psycopg2 does."""
        own: Any = self.cursor_factory
        wanted = cursor_factory or own or driver.cursor
        if isinstance(wanted, type):
            wanted = _commenting(wanted)
        return super().cursor(name, wanted, *args, **kwargs)


@functools.lru_cache(maxsize=100)
def _commenting(factory: type[driver.cursor]) -> type[driver.cursor]:
    """Return a class of cursors that are told from the user's by nothing else."""

    def execute(self: Any, query: Query, vars: Any = None, **more: Any) -> Any:  # noqa: A002 - psycopg2's name
        query = _with_comment(query, self, is_template=vars is not None)
        return factory.execute(self, query, vars, **more)

    def executemany(self: Any, query: Query, vars_list: Any, **more: Any) -> Any:
        query = _with_comment(query, self, is_template=True)
        return factory.executemany(self, query, vars_list, **more)

    methods = {"execute": execute, "executemany": executemany}
    return type(factory.__name__, (factory,), methods)


def _with_comment(query: Query, cur: Any, *, is_template: bool) -> Query:
    hold: Hold | None = getattr(cur.connection, "hold", None)
    route = None if hold is None else getattr(hold, "route", None) or hold.request
    if route is None:
        return query
    text = _comment(route)
    if is_template:
        text = text.replace("%", "%%")
    if isinstance(query, sql.Composable):
        query = query.as_string(cur)
    if isinstance(query, bytes):
        return query if b"/*" in query else query + text.encode()
    return query if "/*" in query else query + text


@functools.lru_cache(maxsize=1000)
def _comment(route: str) -> str:
    # Nothing that quote leaves can end the comment.
    return f" /*route='{quote(route_of(route), safe='')}'*/"
