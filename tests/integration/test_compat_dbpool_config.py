"""The dictionary of pgdbpool 1.x: each key has its effect, each mistake its message."""

import copy
from collections import Counter
from typing import Any

import pytest

from pgdbpool import SettingsError
from pgdbpool.compat.dbpool import (
    Connection,
    Handler,
    Query,
    UnconfiguredGroupError,
    conn_iter,
)
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.postgres import free_port
from pgdbpool.pool import all_pools
from tests.integration.dbpools import (  # noqa: F401 - fixtures
    Config,
    config_of,
    given_config,
    given_environ,
    given_init,
    held,
    server_of,
)
from tests.waiting import until

pytestmark = pytest.mark.direct("resets sessions, and sets options in its DSN")


def setting(db: Handler, name: str) -> str:
    """Return what a setting of the session is."""
    return str(db.query(f"SHOW {name}").fetchone()[0])


@pytest.mark.usefixtures("_init")
def test_what_is_left_out_has_the_documented_default(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the server and of the group; of autocommit the log is told."""
    del config["groups"]["plain"]["autocommit"]
    Connection.init(config)
    assert Connection.get_threading_model() == "threaded"
    assert "groups.plain.autocommit: is missing, and so True" in caplog.text
    assert "groups.work" not in caplog.text
    with Handler("plain") as db:
        assert db.conn_ref is not None
        assert db.conn_ref.autocommit
        assert setting(db, "statement_timeout") == "5s"
        assert setting(db, "temp_buffers") == "128MB"
        assert "connect_timeout=10" in db.conn_ref.dsn
        assert "sslmode=disable" in db.conn_ref.dsn


def test_every_key_has_its_effect(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its unit; what the configuration says goes before the environment."""
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1 -c work_mem=5MB")
    server = server_of(
        dsn,
        ssl="prefer",
        connect_timeout=7,
        query_timeout=2500,
        session_tmp_buffer=16,
        connection_retry_sleep=0.5,
    )
    group = {"connection_count": 3, "autocommit": False, "timeout": 1}
    Connection.init({"type": "threaded", **config_of(server, work=group)})
    with Handler("work") as db:
        assert db.conn_ref is not None
        assert not db.conn_ref.autocommit
        assert setting(db, "statement_timeout") == "2500ms"
        assert setting(db, "temp_buffers") == "16MB"
        assert setting(db, "work_mem") == "5MB"
        assert "connect_timeout=7" in db.conn_ref.dsn
        assert "sslmode=prefer" in db.conn_ref.dsn
    pool = Connection.get_pool("work")
    assert (pool.name, pool.max_size, pool.timeout) == ("work", 3, 1)
    assert Connection.get_max_pool_size("work") == 3


def test_an_option_of_the_environment_goes_before_a_default(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which nobody has asked for."""
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=9s")
    Connection.init(config)
    with Handler("plain") as db:
        assert setting(db, "statement_timeout") == "9s"
        assert setting(db, "temp_buffers") == "128MB"


def test_what_the_manual_of_1_x_shows_is_accepted(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """Its ``ssl: False``, its milliseconds that are seconds, and its own two keys."""
    config["db"] |= {"ssl": False, "connection_retry_sleep": 1, "query_timeout": 120}
    config["groups"]["work"] |= {
        "connections": [(None, "free")],
        "connection_iter": None,
    }
    before = copy.deepcopy(config)
    Connection.init(config)
    assert config == before
    for said in (
        "db.connection_retry_sleep: has no effect",
        "db.query_timeout: these are milliseconds, so 0.12 s",
        "groups.work.connections: has no effect",
        "groups.work.connection_iter: has no effect",
    ):
        assert said in caplog.text
    assert held("work")


def changed(config: Config, path: str, value: object) -> object:
    """Return a configuration with another value, or without it, at a place."""
    config = copy.deepcopy(config)
    part: Any = config
    *way, last = path.split(".")
    for key in way:
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("db", None, r"^config: 'db' is missing$"),
        ("groups", None, r"^config: 'groups' is missing$"),
        ("grops", {}, r"^config: unknown key 'grops'; did you mean 'groups'\?$"),
        ("type", "process", r"^type: must be one of threaded, non-threaded, not 'pro"),
        ("type", 7, r"^type: must be one of"),
        ("db", "dsn", r"^db: must be dict or list, not str$"),
        ("db", [], r"^db: an empty list has no server$"),
        ("db", ["dsn"], r"^db\[0\]: must be dict, not str$"),
        ("db.host", None, r"^db: 'host' is missing$"),
        ("db.pass", None, r"^db: 'pass' is missing$"),
        ("db.host", "", r"^db\.host: must not be empty$"),
        ("db.host", 7, r"^db\.host: must be str, not int$"),
        ("db.pass", 12345, r"^db\.pass: must be str, not int$"),
        ("db.port", "5432", r"^db\.port: must be a whole number, not '5432'$"),
        ("db.password", "secret", r"^db: unknown key 'password'; did you mean 'pass'"),
        ("db.ssl", "off", r"^db\.ssl: must be one of disable, allow, .*, not 'off'$"),
        ("db.ssl", True, r"^db\.ssl: must be one of disable"),
        ("db.connect_timeout", 1.5, r"^db\.connect_timeout: must be a whole number"),
        ("db.query_timeout", -1, r"^db\.query_timeout: must be at least 0, not -1$"),
        ("db.query_timeout", True, r"^db\.query_timeout: must be a whole number"),
        ("db.session_tmp_buffer", "1MB", r"^db\.session_tmp_buffer: must be a whole"),
        ("db.connection_retry_sleep", "1", r"^db\.connection_retry_sleep: must be sec"),
        ("groups", {}, r"^groups: there is none$"),
        ("groups", [], r"^groups: must be dict, not list$"),
        ("groups", {7: {}}, r"^groups: the name 7: must be str, not int$"),
        ("groups.work", 5, r"^groups\.work: must be dict, not int$"),
        ("groups.work", {}, r"^groups\.work: 'connection_count' is missing$"),
        ("groups.work.connection_count", 0, r"^groups\.work\.connection_count: must b"),
        ("groups.work.connection_count", "5", r"^groups\.work\.connection_count: mus"),
        ("groups.work.autocommit", "yes", r"^groups\.work\.autocommit: must be bool"),
        ("groups.work.auto_commit", True, r"^groups\.work: unknown key 'auto_commit';"),
        ("groups.work.sqlprepare", 1, r"^groups\.work\.sqlprepare: must be bool"),
        ("groups.work.timeout", "5", r"^groups\.work\.timeout: must be seconds"),
        ("groups.work.target_session_attrs", "x", r"^groups\.work\.target_session_att"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(
    config: Config, path: str, value: object, said: str
) -> None:
    """What was in force before still is; no pool is left of the attempt."""
    Connection.init(config)
    backend = held("work")
    before = set(all_pools())
    with pytest.raises(SettingsError, match=said) as caught:
        Connection.init(changed(config, path, value))  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    assert "12345" not in str(caught.value)
    assert set(all_pools()) <= before
    assert held("work") == backend


@pytest.mark.parametrize("config", [None, [], "db"])
def test_a_configuration_is_a_dictionary(config: Any) -> None:  # noqa: ANN401 - wrong on purpose
    """And nothing else."""
    with pytest.raises(SettingsError, match=r"^config: must be dict, not "):
        Connection.init(config)


def test_servers_of_two_databases_are_no_group(dsn: str) -> None:
    """1.x connected to one after the other, whichever that was."""
    servers = [server_of(dsn), server_of(dsn, name="other", port=free_port())]
    before = set(all_pools())
    with pytest.raises(SettingsError, match=r"^groups\.plain: .* different databases"):
        Connection.init(config_of(*servers))
    assert all(pool.get_stats()["pool_size"] == 0 for pool in set(all_pools()) - before)


def test_before_init_there_is_no_group() -> None:
    """And a message that says so."""
    for use in (
        lambda: Handler("plain"),
        Connection.get_threading_model,
        lambda: Connection.get_max_pool_size("plain"),
        lambda: next(conn_iter("plain")),
    ):
        with pytest.raises(UnconfiguredGroupError, match=r"init.* was not called"):
            use()


@pytest.mark.usefixtures("_init")
def test_an_unknown_group_is_named() -> None:
    """By whoever is asked for it."""
    for use in (
        lambda: Handler("other"),
        lambda: Connection.get_next_connection("other"),
        lambda: Connection.get_connection(("other", 0)),
        lambda: Query.execute(("other", 0), "SELECT 1"),
    ):
        with pytest.raises(UnconfiguredGroupError, match=r"'other'.*'plain', 'work'"):
            use()


def ports_of(group: str, number: int = 60) -> Counter[int]:
    """Return how many blocks each server served, by its port."""
    found: Counter[int] = Counter()
    for _ in range(number):
        with Handler(group) as db:
            assert db.conn_ref is not None
            found[db.conn_ref.info.port] += 1
    return found


def test_groups_read_where_they_say_and_write_on_the_primary(
    module_cluster: Cluster,
) -> None:
    """``any`` takes turns, ``prefer-standby`` does among the standbys."""
    Connection.init(
        config_of(
            *[server_of(server.dsn()) for server in module_cluster.servers],
            write={"connection_count": 2},
            read={"connection_count": 2, "target_session_attrs": "prefer-standby"},
            turns={"connection_count": 2, "target_session_attrs": "any"},
        )
    )
    standbys = {server.port for server in module_cluster.standbys}
    everyone = {server.port for server in module_cluster.servers}
    until(lambda: set(ports_of("read", 4)) == standbys)
    until(lambda: set(ports_of("turns", 6)) == everyone)
    assert set(ports_of("write")) == {module_cluster.primary.port}
    assert max(ports_of("read").values()) <= 40
    assert max(ports_of("turns").values()) <= 30
