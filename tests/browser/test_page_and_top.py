"""The page and `pgdbpool top` say the same of the same figures."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgdbpool.status import StatusApp
from pgdbpool.top.figures import figures_of
from tests.chromium import Visit, needs_browser, visiting
from tests.integration.pages import served
from tests.unit.top_states import (
    WELL,
    endpoint,
    held,
    seen,
    session,
    state_of,
    worker,
)

pytestmark = [needs_browser, pytest.mark.timeout(120)]

# What the page makes of its figures, by its own functions.
SAID = """
async (status) => {
  const { clientOf, endpointsOf, verdictOf } = await import("./sums.js");
  const parts = status.workers.flatMap((worker) =>
    worker.pools.map((pool) => ({ worker, pool })));
  const held = parts.flatMap(({ pool }) => pool.sessions.filter((one) => one.holder)
    .map((one) => ({ pool, ...one.holder })));
  held.sort((one, other) => other.seconds - one.seconds);
  return {
    verdict: verdictOf(parts, held),
    servers: endpointsOf(parts)
      .map((one) => [one.name, one.role, one.state, one.isWell]),
    sessions: status.server.flatMap((one) => one.sessions)
      .map((one) => [one.pid, clientOf(one, status)]),
  };
}
"""
NAMES = (
    "shop:web:abc.1",
    "shop:web/web1/4711:abc.2",
    "shop:web:abc.8",
    "shop:web:fed0.2",
    "shop:web",
    "shop:abc.2:web",
    "shop:abc.2x",
    ":abc.2",
    "a\nb:abc.1",
    "a\nb",
    "psql",
    "",
)


@pytest.fixture(scope="module", name="visit")
def given_visit() -> Iterator[Visit]:
    """Give a browser at the script of a page, which asks for nothing by itself."""
    app = StatusApp()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="page-") as place,
            served(app) as url,
            visiting(Path(place)) as visit,
        ):
            visit.page.goto(f"{url}static/sums.js")
            yield visit
    finally:
        app.service.history.stop()


def check(visit: Visit, *workers: dict[str, Any], **given: Any) -> None:  # noqa: ANN401 - as JSON
    """Fail if they differ."""
    state = state_of(*workers, **given)
    figures = figures_of(state)
    (found,) = figures.pools
    servers = [[one.name, one.role, one.state, one.is_well] for one in figures.servers]
    said = visit.page.evaluate(SAID, state)
    assert said["verdict"] == [found.verdict.kind, found.verdict.words]
    assert sorted(said["servers"]) == sorted(servers)
    sessions = [[one.pid, one.whose] for one in figures.seen.sessions]
    assert sorted(said["sessions"]) == sorted(sessions)


@pytest.mark.parametrize(
    "states",
    [
        ("up", "up"),
        ("up", "unknown"),
        ("unknown", "up"),
        ("down", "up", "down"),
        ("up", "unknown", "astray"),
    ],
)
def test_of_a_server_of_which_workers_differ(
    visit: Visit, states: tuple[str, ...]
) -> None:
    """Its state, and the verdict."""
    roles = {"up": "primary", "down": None, "unknown": None, "astray": "standby"}
    check(
        visit,
        *(
            worker(
                age,
                endpoints=[
                    endpoint("db2:5432", state=state, role=roles[state]),
                    endpoint(
                        "db1:5432", state=state, role="standby" if age > 1 else None
                    ),
                ],
            )
            for age, state in enumerate(states, 1)
        ),
    )


def test_of_a_server_of_which_workers_know_another_role(visit: Visit) -> None:
    """Both roles, in the same order."""
    roles = ("standby", None, "primary", "standby")
    each = [worker(n, endpoints=[endpoint("a", role=r)]) for n, r in enumerate(roles)]
    check(visit, *each)
    check(visit, *each[::-1])


def test_of_sessions_whatever_they_are_called(visit: Visit) -> None:
    """Whose they are."""
    told = [session(pid, application_name=name) for pid, name in enumerate(NAMES)]
    check(visit, worker(1), worker(2), server=[seen(*told)])


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"health": {**WELL, "saturated": True}},
        {"health": {**WELL, "write_ready": False, "reasons": ["a", "b", "c"]}},
        {"health": {**WELL, "read_ready": False, "reasons": ["a"]}},
        {"sessions": [held(12.0), held(700.0, request=None)]},
    ],
)
def test_of_a_pool(visit: Visit, given: dict[str, Any]) -> None:
    """Its verdict."""
    check(visit, worker(1), worker(2, **given))
