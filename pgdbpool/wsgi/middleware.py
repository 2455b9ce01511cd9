"""Put a pool's connection into the environ of every request.

One request is four small objects: `Request` holds the connection, `Response`
delays the app's start_response call until it is known whether it may stand, and
`ConnectionProxy` and `ReadingProxy` are what the app sees. Only a body that is not
complete yet gets another, `Body`, and only who reads beside the request's own
connection a `Reader`. A request that never touches the database pays for no more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from typing import Literal, NoReturn

from pgdbpool.errors import SettingsError
from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi.proxy import ConnectionProxy, ReadingProxy
from pgdbpool.wsgi.read_your_writes import ReadYourWrites
from pgdbpool.wsgi.refusal import Refusal
from pgdbpool.wsgi.request import Request
from pgdbpool.wsgi.response import Response
from pgdbpool.wsgi.rules import (
    TRANSACTIONS,
    Application,
    CommitVeto,
    Environ,
    Rules,
    StartResponse,
)

# Methods are told apart by case; all that are known have capitals (RFC 9110).
METHOD = re.compile(r"[A-Z]+(-[A-Z]+)*")


class PoolMiddleware:
    """A WSGI application around another, which finds a connection in its environ.

    ``environ["pgdbpool.conn"]`` stands for the request's connection, acquired at
    its first use (see `ConnectionProxy`), ``environ["pgdbpool.read"]`` for one to
    read from, a standby's if one is fit (see `ReadingProxy`), and
    ``environ["pgdbpool.pool"]`` is the pool. With ``transaction="request"`` the
    request is one transaction: it is committed before the byte that completes the
    response, if the app finished without an exception and below status 500, and
    else rolled back.

    A handler may end a transaction itself: ``commit()`` and ``rollback()`` do what
    they say at once, what follows is a new transaction, and the end of the request
    commits only that. From the first such commit on, a lost connection is the
    app's error and no longer a 503, because something was committed.

    With ``transaction="manual"`` nothing is committed that the handler did not
    commit; what it left open is rolled back, with a warning in the log.

    A response of status 400 to 499 whose transaction failed, or whose session was
    lost, stands as it is, rolled back: it promised no success. Any other response
    to a transaction that cannot be committed becomes the error.

    Args:
        app: the application to wrap.
        pool: where connections are acquired.
        key: the connection's key in environ. The pool's is the same with a final
            ``.conn`` replaced by ``.pool``, or else with ``.pool`` appended:
            ``key="orders.conn"`` puts the pool at ``orders.pool``, and likewise
            what reads at ``orders.read``.
        transaction: ``"request"`` or ``"manual"``.
        eager: acquire before the app is called, not at the first use.
        commit_veto: called as ``commit_veto(environ, status, headers)`` when there
            is something to commit; true rolls it back. Not asked in ``"manual"``.
        retry_after: what ``Retry-After`` says with a 503; seconds.
        read_methods: requests with these methods only read: their connection is
            a standby's if one is fit, and their transactions are READ ONLY.
        read_your_writes: lets a client's reads see what it wrote before; None
            where they may be as old as the pool's ``max_lag`` allows.

    Raises:
        SettingsError: an argument is wrong; the message names it.
    """

    def __init__(
        self,
        app: Application,
        pool: ConnectionPool,
        *,
        key: str = "pgdbpool.conn",
        transaction: Literal["request", "manual"] = "request",
        eager: bool = False,
        commit_veto: CommitVeto | None = None,
        retry_after: float = 1,
        read_methods: Collection[str] = (),
        read_your_writes: ReadYourWrites | None = None,
        **unknown: NoReturn,
    ) -> None:
        _check_parts(app, pool)
        _check_settings(key, transaction, eager, commit_veto)
        _check_retry_after(retry_after)
        _check_reading(read_methods, read_your_writes)
        for name in unknown:
            raise SettingsError(f"{name}: unknown setting of PoolMiddleware")
        self.app = app
        self.pool = pool
        self.key = key
        self.pool_key = f"{key.removesuffix('.conn')}.pool"
        self.read_key = f"{key.removesuffix('.conn')}.read"
        self.eager = eager
        self._rules = Rules(
            pool=pool,
            tells_routes=pool.tells_routes,
            is_automatic=transaction == "request",
            commit_veto=commit_veto,
            refusal=Refusal.after(math.ceil(retry_after)),
            read_methods=frozenset(read_methods),
            read_your_writes=read_your_writes,
        )

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one request. May block for an acquire and for a COMMIT."""
        request = Request(self._rules, environ)
        response = Response(request, start_response)
        environ[self.key] = ConnectionProxy(request)
        environ[self.read_key] = ReadingProxy(request)
        environ[self.pool_key] = self.pool
        try:
            if self.eager:
                request.connection()
            return response.answer(self.app(environ, response.start_response))
        except BaseException as error:
            refused = response.refused_whole(error)
            if refused is None:
                raise
            return refused

    def __repr__(self) -> str:
        """Return key, pool and app in one line."""
        return f"<PoolMiddleware {self.key!r} of {self.pool!r} around {self.app!r}>"


def _check_parts(app: object, pool: object) -> None:
    if not callable(app):
        raise SettingsError(f"app: must be a WSGI application, not {app!r}")
    if not callable(getattr(pool, "acquire", None)):
        raise SettingsError(f"pool: must be a ConnectionPool, not {pool!r}")


def _check_settings(
    key: object, transaction: object, eager: object, commit_veto: object
) -> None:
    if not isinstance(key, str) or not key:
        raise SettingsError(f"key: must be a key of environ, not {key!r}")
    if transaction not in TRANSACTIONS:
        raise SettingsError(
            f"transaction: must be 'request' or 'manual', not {transaction!r}"
        )
    if not isinstance(eager, bool):
        raise SettingsError(f"eager: must be bool, not {eager!r}")
    if commit_veto is not None and not callable(commit_veto):
        raise SettingsError(f"commit_veto: must be a function, not {commit_veto!r}")


def _check_retry_after(retry_after: object) -> None:
    if isinstance(retry_after, bool) or not isinstance(retry_after, (int, float)):
        raise SettingsError(f"retry_after: must be seconds, not {retry_after!r}")
    if not 0 <= retry_after < math.inf:
        raise SettingsError(f"retry_after: must not be {retry_after}")


def _check_reading(read_methods: object, read_your_writes: object) -> None:
    if isinstance(read_methods, str) or not isinstance(read_methods, Collection):
        raise SettingsError(
            f"read_methods: must be a collection of methods, not {read_methods!r}"
        )
    for method in read_methods:
        if not isinstance(method, str) or not METHOD.fullmatch(method):
            raise SettingsError(
                f"read_methods: must be methods such as 'GET', not {method!r}"
            )
    if not isinstance(read_your_writes, ReadYourWrites | None):
        raise SettingsError(
            "read_your_writes: must be a ReadYourWrites or None, "
            f"not {read_your_writes!r}"
        )
