"""Put a pool's connection into the environ of every request.

One request is three small objects: `Holder` has the connection, `Response`
delays the app's start_response call until it is known whether it may stand, and
`ConnectionProxy` is what the app sees. Only a body that is not complete yet gets
a fourth, `Body`. A request that never touches the database pays for no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NoReturn

from pgdbpool.errors import SettingsError
from pgdbpool.pool import ConnectionPool
from pgdbpool.wsgi.holder import Holder
from pgdbpool.wsgi.proxy import ConnectionProxy
from pgdbpool.wsgi.refusal import Refusal
from pgdbpool.wsgi.response import Response
from pgdbpool.wsgi.rules import (
    TRANSACTIONS,
    Application,
    CommitVeto,
    Environ,
    Rules,
    StartResponse,
)


class PoolMiddleware:
    """A WSGI application around another, which finds a connection in its environ.

    ``environ["pgdbpool.conn"]`` stands for the request's connection, acquired at
    its first use (see `ConnectionProxy`), and ``environ["pgdbpool.pool"]`` is the
    pool. With ``transaction="request"`` the request is one transaction: it is
    committed before the byte that completes the response, if the app finished
    without an exception and below status 500, and else rolled back.

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
            ``key="orders.conn"`` puts the pool at ``orders.pool``.
        transaction: ``"request"`` or ``"manual"``.
        eager: acquire before the app is called, not at the first use.
        commit_veto: called as ``commit_veto(environ, status, headers)`` when there
            is something to commit; true rolls it back. Not asked in ``"manual"``.
        retry_after: what ``Retry-After`` says with a 503; seconds.

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
        **unknown: NoReturn,
    ) -> None:
        _check_parts(app, pool)
        _check_settings(key, transaction, eager, commit_veto)
        _check_retry_after(retry_after)
        for name in unknown:
            raise SettingsError(f"{name}: unknown setting of PoolMiddleware")
        self.app = app
        self.pool = pool
        self.key = key
        self.pool_key = f"{key.removesuffix('.conn')}.pool"
        self.eager = eager
        self._rules = Rules(
            pool=pool,
            is_automatic=transaction == "request",
            commit_veto=commit_veto,
            refusal=Refusal.after(math.ceil(retry_after)),
        )

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one request. May block for an acquire and for a COMMIT."""
        holder = Holder(self._rules, environ)
        response = Response(holder, start_response)
        environ[self.key] = ConnectionProxy(holder)
        environ[self.pool_key] = self.pool
        try:
            if self.eager:
                holder.connection()
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
