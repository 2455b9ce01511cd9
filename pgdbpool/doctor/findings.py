"""What a rule found."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Severity(enum.Enum):
    """How bad a finding is. Only what is wrong makes the exit status 1."""

    FINE = "fine"
    WARNING = "warning"
    WRONG = "wrong"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one rule found.

    Attributes:
        code: the rule's; does not change from version to version.
        severity: how bad it is.
        text: what is the matter.
        advice: what to do, empty if it is fine.
    """

    code: str
    severity: Severity
    text: str
    advice: str = ""


def worst(findings: Sequence[Finding]) -> Severity:
    """Return the severity of the worst of them, fine if there is none."""
    for severity in (Severity.WRONG, Severity.WARNING):
        if any(finding.severity is severity for finding in findings):
            return severity
    return Severity.FINE


def fine(code: str, text: str) -> Finding:
    """Return that a rule found nothing to change."""
    return Finding(code, Severity.FINE, text)


def warning(code: str, text: str, advice: str) -> Finding:
    """Return what somebody should look at."""
    return Finding(code, Severity.WARNING, text, advice)


def wrong(code: str, text: str, advice: str) -> Finding:
    """Return what a pool cannot work with."""
    return Finding(code, Severity.WRONG, text, advice)
