"""`/livez` and `/readyz` for load balancers and orchestrators."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Final

from werkzeug.exceptions import BadRequest, HTTPException, NotFound
from werkzeug.wrappers import Request, Response

from pgdbpool.status.access import why_not_local
from pgdbpool.status.answers import as_json, check_method, in_words
from pgdbpool.status.shown import Pools

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from pgdbpool.pool import ConnectionPool
    from pgdbpool.snapshot import PoolHealth

# What a probe may ask for, and what has to hold of each pool then.
NEEDS: Final = {"": "write_ready", "write": "write_ready", "read": "read_ready"}


class HealthApp:
    """A WSGI application that tells whether this process can serve.

    It answers from what the pools know: without a connection, without I/O; only pools
    without threads that reach no server connect meanwhile. It knows its two addresses
    by their last part, so it can be mounted anywhere, or at both.

    ``/livez`` is answered 200 as long as the process answers at all: a database that is
    down is no reason to restart the application.

    ``/readyz`` is answered 200 when each pool reaches a server that takes writes, else
    503; ``/readyz?read`` is content with any server. A pool that is saturated is ready:
    it serves, and to send its load to the others would saturate them too.

    Args:
        *pools: those that count; none: all that are open in the process at that moment.
        details: whether the answer names servers and what they said last. None: to who
            asks from this machine, while strangers learn no more than yes or no.

    Raises:
        SettingsError: one of them is no pool.
    """

    def __init__(self, *pools: ConnectionPool, details: bool | None = None) -> None:
        self._pools = Pools(pools)
        self._has_details = details

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a probe. Does not block, but for pools without threads."""
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
        return self._readiness(NEEDS[asked], has_details=self._tells_all(request))

    def _tells_all(self, request: Request) -> bool:
        if self._has_details is None:
            return why_not_local(request) is None
        return self._has_details

    def _readiness(self, need: str, *, has_details: bool) -> Response:
        pools = self._pools.all()
        found = [pool.health() for pool in pools]
        is_ready = bool(found) and all(getattr(health, need) for health in found)
        answer: dict[str, Any] = {"ready": is_ready}
        for name in ("write_ready", "read_ready"):
            answer[name] = bool(found) and all(getattr(each, name) for each in found)
        answer["saturated"] = any(health.saturated for health in found)
        if has_details:
            answer["pools"] = by_name([pool.name for pool in pools], found)
            answer["reasons"] = [] if found else ["there is no pool that is open"]
        return as_json(answer, 200 if is_ready else 503)


def by_name(names: Iterable[str], found: Iterable[PoolHealth]) -> dict[str, Any]:
    """Return each by its name; the second of the same is ``shop (2)``."""
    told: dict[str, Any] = {}
    for name, health in zip(names, found, strict=True):
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        key = next(key for key in itertools.chain([name], numbered) if key not in told)
        told[key] = dataclasses.asdict(health)
    return told
