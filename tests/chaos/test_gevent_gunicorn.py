"""Row 18, under gunicorn: five hundred requests on five connections."""

from pathlib import Path

import pytest
from psycopg2.extensions import connection

from tests.chaos.patched import counting, findings
from tests.gunicorns import GREEN_CONF, Gunicorn, sessions
from tests.waiting import until

pytestmark = [
    pytest.mark.no_cover,  # it cannot follow threads and greenlets at once
    pytest.mark.direct("its pools are in other processes"),
]

CROWD = 500


def test_what_was_answered_200_is_committed_whoever_hangs_up(
    tmp_path: Path, dsn: str, admin: connection, application_name: str, table: str
) -> None:
    """And what timed out is not; the pool keeps its size and all its connections."""
    with Gunicorn(
        tmp_path,
        dsn,
        *("-k", "gevent", "--worker-connections", "1000"),
        conf=GREEN_CONF,
        app="tests.chaos.greenlet_app:make_app()",
        environ={"APP_TABLE": table},
    ) as gunicorn:
        gunicorn.wait()
        with counting(
            dsn, lambda looking: sessions(looking, application_name)
        ) as sizes:
            found = findings("clients", gunicorn.port, CROWD)
        until(lambda: is_whole(gunicorn.get()[1]), message="nothing is held")
        stats = gunicorn.get()[1]
        seen = sessions(admin, application_name)
        assert "GREENLETS" not in gunicorn.log.upper(), "nothing to warn of"
    written = numbers(admin, table)
    by_status = {int(status): set(ids) for status, ids in found.items()}
    late = by_status[504] | by_status.get(500, set())
    assert set(by_status) <= {0, 200, 500, 504}  # 0: hung up, or cut off
    assert not [number for number in late if number % 3], "they had time enough"
    assert len(by_status[200]) > CROWD / 5
    assert len(by_status[504]) > CROWD / 50
    assert by_status[200] <= written
    assert not late & written
    assert {state for _, state, _ in seen} == {"idle"}
    assert stats["requests_waiting"] == 0
    assert stats["pool_size"] <= 5
    assert len(seen) == stats["pool_size"]
    # The server may be late to notice that a client has closed.
    assert max(sizes) <= 2 * 5


def is_whole(stats: dict[str, int]) -> bool:
    """Whether every connection of the pool is idle."""
    return stats["pool_available"] == stats["pool_size"]


def numbers(admin: connection, table: str) -> set[int]:
    """Return what is committed."""
    with admin.cursor() as cur:
        cur.execute(f"SELECT id FROM {table}")
        return {number for (number,) in cur}
