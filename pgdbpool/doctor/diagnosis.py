"""All that was found, and what follows from it."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from pgdbpool.doctor import clusters
from pgdbpool.doctor.examining import examine
from pgdbpool.doctor.findings import Finding, Severity, worst, wrong
from pgdbpool.doctor.rules import findings_of
from pgdbpool.endpoint.need import default_need
from pgdbpool.routing.hosts import endpoint_params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgdbpool.doctor.facts import Facts, Plan
    from pgdbpool.settings import Settings


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        plan: how many connections the service wants.
        servers: the facts about each endpoint.
        findings: what follows for each, in the same order.
        general: what follows for all together.
    """

    plan: Plan
    servers: Sequence[Facts]
    findings: Sequence[Sequence[Finding]]
    general: Sequence[Finding]

    @property
    def all_findings(self) -> list[Finding]:
        """What follows, of each server and of all together."""
        return [one for found in (*self.findings, self.general) for one in found]

    @property
    def severity(self) -> Severity:
        """That of the worst finding."""
        return worst(self.all_findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can have it; doc/doctor.md has the names."""
        plan = {**dataclasses.asdict(self.plan), "needed": self.plan.needed}
        return {
            "severity": self.severity.value,
            "plan": plan,
            "endpoints": [
                {**_flat(facts), "findings": [_flat(one) for one in found]}
                for facts, found in zip(self.servers, self.findings, strict=True)
            ],
            "findings": [_flat(one) for one in self.general],
        }


def _flat(found: Facts | Finding) -> dict[str, Any]:
    return {
        name: value.value if isinstance(value, enum.Enum) else value
        for name, value in dataclasses.asdict(found).items()
    }


def refused(error: Exception) -> dict[str, Any]:
    """Return as JSON that a setting is wrong, and so nothing was examined."""
    advice = "`pgdbpool settings` shows what holds, and where it came from."
    return {
        "severity": Severity.WRONG.value,
        "plan": None,
        "endpoints": [],
        "findings": [_flat(wrong("settings", str(error), advice))],
        "warnings": [],
    }


def diagnose(settings: Settings, plan: Plan, timeout: float) -> Diagnosis:
    """Examine all endpoints of a pool. Blocks for ``timeout`` at most, and a little.

    Args:
        settings: the pool's.
        plan: how many connections the service wants.
        timeout: for each endpoint, seconds; they are examined at the same time.

    Raises:
        SettingsError: together they are no cluster, or the password is of no use.
    """
    each, _, attributes = endpoint_params(settings)
    need = default_need(attributes, is_one_name=len(each) == 1)
    servers = examine(settings, timeout)
    return Diagnosis(
        plan,
        servers,
        [findings_of(facts, settings, plan) for facts in servers],
        clusters.findings_of_all(servers, need, plan),
    )
