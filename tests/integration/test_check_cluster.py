"""``pgdbpool check`` on several real servers: who is the primary, and who is late."""

import threading
from collections.abc import Callable

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import HOST, EmbeddedPostgres
from pgdbpool.demo.standby import ask as ask_server
from pgdbpool.doctor.lagging import STILL
from tests.integration.checking import (  # noqa: F401 - fixtures
    Told,
    given_admin,
    given_guarded_server,
    given_leads_to,
    given_shop,
    nothing_is_set,
)
from tests.proxy import Proxy
from tests.waiting import until

pytestmark = pytest.mark.direct("the doctor asks who is behind each address")


def test_a_cluster_of_three_is_fine(module_cluster: Cluster) -> None:
    """One primary, two standbys without lag."""
    told = Told(module_cluster.dsn())
    assert told.troubles == {"privileges": "warning", "server-limits": "warning"}
    assert told.status == 0
    roles = [one["role"] for one in told.endpoints]
    assert roles == ["primary", "standby", "standby"]
    assert [one["streaming"] for one in told.endpoints] == [None, True, True]
    assert len({one["system"] for one in told.endpoints}) == 1


def test_a_standby_that_is_behind_is_a_warning(breakable: Cluster) -> None:
    """With how far, and why."""
    late = breakable.standbys[0]
    ask_server(breakable.primary, "CREATE TABLE notes (note text)")
    breakable.wait_until_replayed()
    ask_server(late, "SELECT pg_wal_replay_pause()")
    until(
        lambda: ask_server(late, "SELECT pg_get_wal_replay_pause_state()") == "paused"
    )
    try:
        ask_server(
            breakable.primary, "INSERT INTO notes SELECT generate_series(1, 999)"
        )
        told = Told(breakable.dsn(), PGDBPOOL_MAX_LAG="0")
    finally:
        ask_server(late, "SELECT pg_wal_replay_resume()")
    (facts,) = [one for one in told.endpoints if one["name"] == f"{HOST}:{late.port}"]
    found = {one["code"]: one for one in facts["findings"]}
    assert facts["lag"] >= STILL
    assert facts["reached"] is False
    assert facts["replayed"] > facts["lag"], "they were not asked at one time"
    assert facts["lag_bytes"] > 50_000
    assert "does not read from it" in found["lag"]["text"]
    assert found["lag"]["severity"] == found["replication"]["severity"] == "warning"
    assert found["replication"]["text"] == "its replaying is paused"
    assert told.status == 0


def test_a_cluster_without_its_primary_is_wrong(breakable: Cluster) -> None:
    """The standbys are examined all the same."""
    breakable.primary.stop()
    told = Told(breakable.dsn())
    assert told.status == 1
    assert told.troubles["reach"] == told.troubles["primary"] == "wrong"
    reached = [one["trouble"] for one in told.endpoints]
    assert reached == ["unreachable", None, None]
    assert {one["streaming"] for one in told.endpoints[1:]} == {False}


def test_a_standby_alone_is_for_reading(module_cluster: Cluster) -> None:
    """A warning, unless that is what is asked for."""
    dsn = module_cluster.standbys[0].dsn()
    assert Told(dsn).troubles["primary"] == "warning"
    assert "primary" not in Told(f"{dsn} target_session_attrs=standby").troubles
    told = Told(f"{dsn} target_session_attrs=read-write")
    assert (told.status, told.troubles["primary"]) == (1, "wrong")


def test_two_servers_of_their_own_are_no_cluster(
    guarded_server: EmbeddedPostgres, private_server: EmbeddedPostgres
) -> None:
    """They are two primaries as well."""
    told = Told(guarded_server.dsn(), private_server.dsn())
    assert told.status == 1
    assert told.troubles["cluster"] == told.troubles["primary"] == "wrong"


def test_one_server_by_two_names_is_a_warning(
    shop: str, private_server: EmbeddedPostgres
) -> None:
    """By its address and its socket."""
    socket = private_server.dsn(user="shop", host=str(private_server.directory))
    told = Told(shop, socket)
    assert (told.status, told.troubles) == (0, {"twice": "warning"})


def test_the_servers_of_a_name_are_endpoints(
    module_cluster: Cluster, leads_to: Callable[..., None]
) -> None:
    """As in a pool, and by the same names."""
    leads_to("127.0.0.1", "127.0.0.2")
    primary, standby, _ = module_cluster.servers
    with Proxy(standby.port, at=("127.0.0.2", primary.port)):
        told = Told(make_dsn(primary.dsn(), host="localhost"))
    assert [(one["name"], one["role"]) for one in told.endpoints] == [
        (f"localhost(127.0.0.1):{primary.port}", "primary"),
        (f"localhost(127.0.0.2):{primary.port}", "standby"),
    ]


def test_a_busy_standby_that_keeps_up_is_not_late(breakable: Cluster) -> None:
    """However old its last commit is: nobody commits, and much is written."""
    primary, late = breakable.primary, breakable.standbys[0]
    ask_server(primary, "CREATE TABLE drafts (note text)")
    breakable.wait_until_replayed()
    has_ended = threading.Event()
    has_written = threading.Event()

    def write() -> None:
        conn = psycopg2.connect(primary.dsn())
        with conn.cursor() as cur:
            while not has_ended.is_set():
                cur.execute("INSERT INTO drafts SELECT generate_series(1, 2000)")
                has_written.set()
        conn.close()

    writer = threading.Thread(target=write)
    writer.start()
    age = "SELECT now() - pg_last_xact_replay_timestamp() > '3 s'"
    try:
        assert has_written.wait(30.0)
        until(lambda: ask_server(late, age), 30.0, "the last commit is old")
        told = Told(breakable.dsn(), PGDBPOOL_MAX_LAG="3")
    finally:
        has_ended.set()
        writer.join(30.0)
    assert "lag" not in told.troubles
    for facts in told.endpoints[1:]:
        assert facts["reached"] is True
        assert facts["lag"] < 3.0 < facts["replayed"]


def test_without_its_primary_the_lag_of_a_standby_is_not_known(
    module_cluster: Cluster,
) -> None:
    """Nor by a primary of another cluster, whatever that has written."""
    dsn = module_cluster.standbys[0].dsn()
    (facts,) = Told(dsn).endpoints
    assert facts["lag"] is facts["lag_bytes"] is facts["reached"] is None


def test_a_primary_that_is_not_asked_in_time_keeps_nobody(
    module_cluster: Cluster,
) -> None:
    """The standby is told all the same, but for its lag."""
    primary, standby = module_cluster.primary, module_cluster.standbys[0]
    with Proxy(primary.port) as proxy:
        proxy.silence()
        told = Told(
            make_dsn(primary.dsn(), port=proxy.port), standby.dsn(), "--timeout", "2"
        )
    assert [one["trouble"] for one in told.endpoints] == ["silent", None]
    assert told.endpoints[1]["role"] == "standby"
    assert told.endpoints[1]["lag"] is None


def test_of_a_cluster_that_has_parted_the_newer_part_is_named(
    breakable: Cluster,
) -> None:
    """And nobody is told to write to both."""
    primary, other = breakable.primary, breakable.standbys[0]
    ask_server(other, "SELECT pg_promote(true, 30)")
    try:
        told = Told(primary.dsn(), other.dsn())
        to_any = Told(f"{breakable.dsn()} target_session_attrs=any")
    finally:
        other.stop("fast")
    assert (told.status, told.troubles["primary"]) == (1, "wrong")
    old, new = (f"{HOST}:{server.port}" for server in (primary, other))
    assert f"{new} has the newer timeline" in told.advice("primary")
    assert f"stop {old}" in told.advice("primary")
    assert "any" not in told.advice("primary")
    assert to_any.troubles["primary"] == "warning"
