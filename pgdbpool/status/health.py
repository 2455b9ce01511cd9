"""`/livez` and `/readyz` for load balancers and orchestrators."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from werkzeug.exceptions import BadRequest, HTTPException, NotFound
from werkzeug.wrappers import Request, Response

from pgdbpool.errors import SettingsError
from pgdbpool.pool import ConnectionPool, all_pools
from pgdbpool.status.answers import as_json, check_method, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# What a probe may ask for, and what has to hold of each pool then.
NEEDS: Final = {"": "write_ready", "write": "write_ready", "read": "read_ready"}


class HealthApp:
    """A WSGI application that tells whether this process can serve.

    It answers from what the pools know: without a connection, without I/O. It knows
    its two addresses by their last part, so it can be mounted anywhere, or at both.

    ``/livez`` is answered 200 as long as the process answers at all: a database that is
    down is no reason to restart the application.

    ``/readyz`` is answered 200 when each pool reaches a server that takes writes, else
    503; ``/readyz?read`` is content with any server. A pool that is saturated is ready:
    it serves, and to send its load to the others would saturate them too.

    Args:
        *pools: those that count; none: all that the process has at that moment.
        details: whether the answer names servers and what they said last. Without it
            strangers learn no more than yes or no.

    Raises:
        SettingsError: one of them is no pool.
    """

    def __init__(self, *pools: ConnectionPool, details: bool = True) -> None:
        self._pools = checked(pools)
        self._has_details = details

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a probe. Does not block."""
        request = Request(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = in_words(error)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        place = (request.root_path + request.path).rstrip("/").rpartition("/")[2]
        if place not in {"livez", "readyz"}:
            raise NotFound("there are /livez and /readyz")
        check_method(request)
        if place == "livez":
            return as_json({"alive": True})
        asked = request.query_string.decode("latin-1")
        if asked not in NEEDS:
            raise BadRequest("ask for /readyz, /readyz?write or /readyz?read")
        return self._readiness(NEEDS[asked])

    def _readiness(self, need: str) -> Response:
        found: dict[str, dict[str, Any]] = {}
        for pool in self._pools or all_pools():
            found[pool.name] = dataclasses.asdict(pool.health())
        is_ready = bool(found) and all(health[need] for health in found.values())
        answer: dict[str, Any] = {"ready": is_ready}
        for name in ("write_ready", "read_ready"):
            answer[name] = bool(found) and all(each[name] for each in found.values())
        answer["saturated"] = any(health["saturated"] for health in found.values())
        if self._has_details:
            answer["pools"] = found
            answer["reasons"] = [] if found else ["there is no pool yet"]
        return as_json(answer, 200 if is_ready else 503)


def checked(pools: tuple[ConnectionPool, ...]) -> tuple[ConnectionPool, ...]:
    """Return what was given, all of it pools.

    Raises:
        SettingsError: one is none.
    """
    for pool in pools:
        if not isinstance(pool, ConnectionPool):
            raise SettingsError(f"pools: {pool!r} is no ConnectionPool")
    return pools
