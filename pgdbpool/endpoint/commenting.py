"""A comment at the end of statements that tells the route of their request.

The form is sqlcommenter's (its specification, "Key Value format"): ``/*route='…'*/``,
the value percent-encoded. It stands in the server's log and in ``pg_stat_activity``;
``pg_stat_statements`` takes statements for the same that differ only in it.

What psycopg2 makes up by itself has none: the FETCH and CLOSE of a named cursor,
`copy_from`, `copy_to`, large objects, BEGIN and COMMIT.
"""

import functools
import re
from typing import Any, Final
from urllib.parse import quote

from psycopg2 import extensions as driver
from psycopg2 import sql

from pgdbpool.endpoint.entry import Hold
from pgdbpool.histograms import route_in

# A comment in ``/* */``, after whatever could only seem to have one: strings with and
# without escapes, names, strings in dollars, and comments to the end of the line.
_BEFORE: Final = (
    r"[eE]'(?:[^'\\]|\\.)*'|'[^']*'|\"[^\"]*\"|(\$(?:[^\W\d]\w*)?\$).*?\1|--[^\n]*"
)
_COMMENT: Final = re.compile(rf"{_BEFORE}|(?P<comment>/\*)", re.DOTALL)


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


class CommentingCursor(driver.cursor):
    """Says for which route it works.

    It stands below the user's class, which may take whatever arguments it likes, and
    add parameters of its own: what counts is what reaches psycopg2. A class that
    calls psycopg2's cursor by its name, and not by ``super()``, goes past it.
    """

    __slots__ = ()

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002 - psycopg2's name
        """Execute, as psycopg2 does."""
        query = _with_comment(query, self, is_template=vars is not None)
        return super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """Execute for each set of parameters, as psycopg2 does."""
        query = _with_comment(query, self, is_template=True)
        return super().executemany(query, vars_list)

    def callproc(self, procname: Any, *parameters: Any) -> Any:
        """Call a function, as psycopg2 does, which writes the name as it is."""
        if isinstance(procname, str):
            is_template = any(given is not None for given in parameters)
            procname = _with_comment(procname, self, is_template=is_template)
        return super().callproc(procname, *parameters)

    def copy_expert(self, sql: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy, as psycopg2 does."""
        query = _with_comment(sql, self, is_template=False)
        return super().copy_expert(query, *args, **kwargs)


@functools.lru_cache(maxsize=100)
def _commenting(factory: type[driver.cursor]) -> type[driver.cursor]:
    """Return a class of cursors that are told from the user's by nothing else."""
    if issubclass(factory, CommentingCursor):
        return factory
    same = ("__module__", "__qualname__", "__doc__")
    told = {name: getattr(factory, name) for name in same}
    above = () if factory is driver.cursor else (factory,)
    bases = (*above, CommentingCursor)
    return type(factory.__name__, bases, {"__slots__": (), **told})


def _with_comment(query: Any, cur: Any, *, is_template: bool) -> Any:
    """Return a statement with the comment; what is none is left to psycopg2."""
    hold: Hold | None = getattr(cur.connection, "hold", None)
    route = None if hold is None else route_in(hold)
    if route is None or not query:
        return query
    if isinstance(query, sql.Composable):
        query = query.as_string(cur)
    if isinstance(query, bytes):
        # Of a text in any encoding of a client these bytes are ASCII's.
        return query + _ending(query.decode("latin-1"), route, is_template).encode()
    if isinstance(query, str):
        return query + _ending(query, route, is_template)
    return query


def _ending(query: str, route: str, is_template: bool) -> str:  # noqa: FBT001 - on the path of every statement
    if "/*" in query and _has_comment(query):
        return ""
    text = _comment(route)
    if "--" in query:  # what ends with its line would take it in
        text = "\n" + text[1:]
    return text.replace("%", "%%") if is_template else text


def _has_comment(query: str) -> bool:
    return any(found["comment"] for found in _COMMENT.finditer(query))


@functools.lru_cache(maxsize=1000)
def _comment(route: str) -> str:
    # Nothing that quote leaves can end the comment.
    return f" /*route='{quote(route, safe='')}'*/"
