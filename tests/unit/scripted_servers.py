"""Facts about servers that nobody has asked."""

from collections.abc import Sequence
from typing import Any

from pgdbpool.doctor import clusters
from pgdbpool.doctor.diagnosis import Diagnosis
from pgdbpool.doctor.facts import Facts, Plan
from pgdbpool.doctor.rules import findings_of
from pgdbpool.endpoint.need import Need
from pgdbpool.settings import Settings

PLAN = Plan(hosts=1, workers=2, threads=4, size=4)


def settings(**given: Any) -> Settings:  # noqa: ANN401 - whatever a pool takes
    """Return the settings of a pool."""
    return Settings.of("", given)


def primary(name: str = "db1:5432", **different: Any) -> Facts:  # noqa: ANN401 - of all types
    """Return a primary with which nothing is wrong, but for what is different."""
    sound: dict[str, Any] = {
        "connect": 0.01,
        "round_trip": 0.001,
        "role": "primary",
        "read_only": False,
        "position": 1_000_000,
        "timeline": 1,
        "system": "7",
        "started": name,
        "version": 180001,
        "address": "10.0.0.1",
        "local": False,
        "tls": "TLSv1.3",
        "sslmode": "verify-full",
        "root_certificate": False,
        "user": "app",
        "superuser": False,
        "bypasses_rls": False,
        "max_connections": 100,
        "reserved": 3,
        "in_use": 0,
        "own": 0,
        "named": True,
        "role_limit": -1,
        "role_in_use": 0,
        "database_limit": -1,
        "database_in_use": 0,
        "limits": {
            "statement_timeout": 30.0,
            "lock_timeout": 5.0,
            "idle_in_transaction_session_timeout": 60.0,
            "idle_session_timeout": 0.0,
        },
        "client": {"connect_timeout": "5", "tcp_user_timeout": "20000"},
    }
    return Facts(name, **{**sound, **different})


def standby(name: str = "db2:5432", **different: Any) -> Facts:  # noqa: ANN401 - of all types
    """Return a standby with which nothing is wrong, but for what is different."""
    sound = {
        "role": "standby",
        "read_only": None,
        "timeline": None,
        "lag": 0.0,
        "lag_bytes": 0,
        "reached": True,
        "replayed": 0.5,
        "streaming": True,
        "paused": False,
    }
    return primary(name, **{**sound, **different})


def diagnosed(servers: Sequence[Facts], plan: Plan = PLAN) -> Diagnosis:
    """Return what follows from the facts about some servers."""
    return Diagnosis(
        plan,
        servers,
        [findings_of(one, settings(), plan) for one in servers],
        clusters.findings_of_all(servers, Need.PRIMARY, plan),
    )
