"""Examines all endpoints of a pool at the same time, each within a deadline.

Each is examined in a thread of its own, which nobody waits for beyond the deadline: a
resolver, a provider of passwords or a server may be silent for ever. The connections
are made as the pool would make them, but for the user's own classes and hooks.
"""

from __future__ import annotations

import dataclasses
import math
import os
import queue
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg2

from pgdbpool.doctor import asking, pooler, troubles
from pgdbpool.doctor.addresses import merged
from pgdbpool.doctor.facts import Facts, Trouble
from pgdbpool.doctor.lagging import Mark, Written, follow
from pgdbpool.doctor.masking import masked, masked_name
from pgdbpool.endpoint import names
from pgdbpool.endpoint.endpoint import (
    IN_ENVIRONMENT,
    connect_limit,
    endpoint_name,
    safe_params,
)
from pgdbpool.endpoint.login import log_in
from pgdbpool.routing.hosts import endpoint_params
from pgdbpool.routing.servers import logins_of
from pgdbpool.terminal import printable
from pgdbpool.watchdog import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg2.extensions import connection

    from pgdbpool.auth.cache import Credentials
    from pgdbpool.settings import Settings

T = TypeVar("T")

# How much longer than its deadline a thread may take to tell what it was.
GRACE: Final = 0.5
# How long a pooler may take to give a second client a session, seconds.
POOLER_LIMIT: Final = 1.0
ASKING_PROVIDER: Final = "asking the password provider"
ASKING: Final = "asking the server"


def examine(settings: Settings, timeout: float) -> list[Facts]:
    """Find out what there is to know of each endpoint. Blocks for ``timeout``.

    A name that leads to several servers is as many endpoints, as in a pool.

    Args:
        settings: the pool's.
        timeout: for each endpoint, seconds; they are examined at the same time.

    Raises:
        SettingsError: together they are no cluster, or the password is of no use.
    """
    each, _, _ = endpoint_params(settings)
    places = [endpoint_name(params) for params in each]
    logins = logins_of(settings, each, places, "check")
    for params in each:
        connect_limit(params)
    deadline = monotonic() + timeout
    written = Written()
    examinations = [
        Examination(
            _name_of(name, params),
            params,
            credentials,
            settings.name,
            timeout,
            deadline,
            written,
        )
        for name, params, credentials in zip(places, each, logins, strict=True)
    ]
    written.expect(map(id, examinations))
    asked = together([one.of_name for one in examinations], deadline + 2 * GRACE)
    found = [
        facts if facts is not None else [one.unfinished()]
        for facts, one in zip(asked, examinations, strict=True)
    ]
    return [facts for several in found for facts in several]


def together(tasks: Sequence[Callable[[], T]], deadline: float) -> list[T | None]:
    """Run tasks at the same time; None for who is not back by ``deadline``."""
    done: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()

    def run(number: int, task: Callable[[], T]) -> None:
        done.put((number, task()))

    for number, task in enumerate(tasks):
        threading.Thread(target=run, args=(number, task), daemon=True).start()
    results: list[T | None] = [None] * len(tasks)
    for _ in tasks:
        try:
            number, result = done.get(timeout=max(0.0, deadline - monotonic()))
        except queue.Empty:
            break
        results[number] = result
    return results


@dataclasses.dataclass
class Examination:
    """The examination of one endpoint.

    Attributes:
        name: host and port.
        params: of libpq, as the user gave them.
        credentials: what to log in with; None: as libpq finds it.
        service: the pool's name.
        timeout: for all of it, seconds.
        deadline: when that is over, monotonic seconds.
        written: where the primary tells how far it has written.
        stage: what is waited for.
        secrets: what it logged in with.
    """

    name: str
    params: Mapping[str, str] = dataclasses.field(repr=False)
    credentials: Credentials | None
    service: str | None
    timeout: float
    deadline: float
    written: Written
    stage: str = "resolving the name"
    secrets: list[str] = dataclasses.field(default_factory=list, repr=False)

    def of_name(self) -> list[Facts]:
        """Examine each server that a name leads to. Blocks."""
        name = names.name_of(self.params)
        addresses = [] if name is None else sorted(_resolved(name))
        if name is None or len(addresses) <= 1:
            return [self.run()]
        port = self.name.rpartition(":")[2]
        several = [
            dataclasses.replace(
                self,
                name=f"{name}({address}):{port}",
                params={**self.params, "hostaddr": address},
            )
            for address in addresses
        ]
        self.stage = "asking at all addresses"
        self.written.expect(map(id, several))
        self.written.tell(id(self), None)
        asked = together([one.run for one in several], self.deadline + GRACE)
        found = [
            facts if facts is not None else one.unfinished()
            for facts, one in zip(asked, several, strict=True)
        ]
        return merged(self.name, addresses, found)

    def unfinished(self) -> Facts:
        """Return what is known of a server that is still waited for."""
        trouble = Trouble.SILENT
        if self.stage == ASKING_PROVIDER:
            trouble = Trouble.CREDENTIALS
        error = f"{self.stage} took longer than {self.timeout:g} s"
        return Facts(self.name, trouble, error)

    def run(self) -> Facts:
        """Examine one server. Blocks, and raises nothing."""
        facts = Facts(self.name, named=bool(self._given_name() or self.service))
        try:
            self._examine(facts)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
            is_let_in = self.stage == ASKING
            trouble_of = troubles.of_question if is_let_in else troubles.of_connect
            facts.trouble = trouble_of(error)
            facts.error = self._told(error)
        finally:
            self.written.tell(id(self), None)
        return facts

    def _told(self, error: Exception) -> str:
        """Return what an error says, in one line that harms nobody."""
        said = masked(str(error), self.params, self.secrets)
        return printable(" ".join(said.split()) or type(error).__name__)

    def _examine(self, facts: Facts) -> None:
        begun_at = monotonic()
        conn = self._connect()
        try:
            facts.connect = monotonic() - begun_at
            self.stage = ASKING
            with guarded(conn, self._left(), self.stage):
                asking.ask(conn, facts, self._own_sessions())
                is_pooled = pooler.is_pooled(conn)
                self._tell_position(conn, facts)
            # The second client of a pooler needs its time as well.
            later = POOLER_LIMIT if is_pooled else 0.0
            self._measure_lag(conn, facts, self.deadline - later)
            if is_pooled:
                limit = min(POOLER_LIMIT, self._left())
                facts.pooler = pooler.mode_of(conn, self._connect, limit)
        finally:
            conn.close()
        if not self._has_service():
            facts.client |= self._connect_timeout(safe_params(self.params))

    def _tell_position(self, conn: connection, facts: Facts) -> None:
        at = monotonic()
        position = asking.position_of(conn) if facts.role == "primary" else None
        mark = None if position is None else Mark(facts.system, position, at)
        self.written.tell(id(self), mark)

    def _measure_lag(self, conn: connection, facts: Facts, deadline: float) -> None:
        """See how long a standby takes to replay what the primary has written."""
        if facts.role != "standby":
            return
        mark = self.written.of(facts.system, deadline)
        if mark is None:
            return
        with guarded(conn, self._left() + GRACE, self.stage):
            lag = follow(lambda: asking.position_of(conn), mark, deadline)
            if lag is not None:
                facts.lag, facts.lag_bytes = lag.seconds, lag.left
                facts.reached = lag.reached
                asking.ask_replay(conn, facts)

    def _own_sessions(self) -> str:
        """Return what the names of the pool's sessions match."""
        return asking.pattern_of(self._given_name(), self.service)

    def _given_name(self) -> str | None:
        return self.params.get("application_name") or os.environ.get("PGAPPNAME")

    def _has_service(self) -> bool:
        return "service" in self.params or "PGSERVICE" in os.environ

    def _connect(self) -> connection:
        if self.credentials is None:
            return self._open({})
        self.stage = ASKING_PROVIDER
        credential = self.credentials.get()
        return log_in(self.credentials, credential, self._open)

    def _open(self, login: Mapping[str, str]) -> connection:
        self.stage = "connecting"
        params: dict[str, Any] = {**safe_params(self.params), **login}
        if "password" in login:
            self.secrets.append(login["password"])
        if not self._has_service():  # whose file may say less than the deadline
            own = int(self._connect_timeout(params).get("connect_timeout", 0))
            left = math.ceil(self._left())
            params["connect_timeout"] = min(own, left) if own > 0 else left
        params |= {"application_name": asking.NAME, "target_session_attrs": "any"}
        conn: connection = psycopg2.connect(**params)
        conn.autocommit = True
        return conn

    def _connect_timeout(self, params: Mapping[str, str]) -> dict[str, str]:
        """Return that of the pool, if it has one."""
        key = "connect_timeout"
        given = params.get(key) or os.environ.get(IN_ENVIRONMENT[key])
        return {key: given} if given else {}

    def _left(self) -> float:
        return max(0.1, round(self.deadline - monotonic(), 1))


def _name_of(name: str, params: Mapping[str, str]) -> str:
    """Return what to call an endpoint: its service, if that says where it is."""
    service = params.get("service") or os.environ.get("PGSERVICE")
    if service and not {"host", "hostaddr"} & params.keys():
        name = f"service {service}"
    return masked_name(name, params)


def _resolved(name: str) -> frozenset[str]:
    """Return the addresses of a name, none where libpq is to say what is wrong."""
    try:
        return names.addresses(name)
    except (OSError, UnicodeError):
        return frozenset()
