"""From the dictionary of pgdbpool 1.x to DSNs and settings."""

from typing import Any

import pytest
from psycopg2.extensions import parse_dsn

from pgdbpool import SettingsError
from pgdbpool.compat.dbpool.config import plan_of
from pgdbpool.compat.dbpool.prepared import Prepare

SERVER = {"host": "db1", "name": "shop", "user": "app", "pass": "secret"}


@pytest.fixture(autouse=True)
def _no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGOPTIONS", raising=False)


def planned(db: Any, **group: Any) -> Any:  # noqa: ANN401 - as a user gives it
    """Return what is planned for one group with these servers."""
    groups = {"g": {"connection_count": 2, "autocommit": True, **group}}
    return plan_of({"db": db, "groups": groups}).groups["g"]


@pytest.mark.parametrize(
    "text", ["a b", "it's", "back\\slash", "p@ss/w:rd?#%", "'", " ", "ümläut"]
)
def test_every_text_comes_through_as_it_is(text: str) -> None:
    """As password, user, database and host."""
    given = {"host": text, "name": text, "user": text, "pass": text}
    (dsn,) = planned(given).conninfo
    params = parse_dsn(dsn)
    assert {params[key] for key in ("host", "dbname", "user", "password")} == {text}


def test_what_is_left_to_libpq_is_not_in_the_dsn() -> None:
    """The port; an empty password; which of one server serves."""
    (dsn,) = planned({**SERVER, "pass": ""}).conninfo
    assert parse_dsn(dsn) == {
        "host": "db1",
        "dbname": "shop",
        "user": "app",
        "sslmode": "disable",
        "connect_timeout": "10",
        "options": "-c statement_timeout=5000 -c temp_buffers=128MB",
    }


def test_the_last_of_several_options_is_the_most_explicit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A default, the environment, the dictionary."""
    monkeypatch.setenv("PGOPTIONS", r" -c statement_timeout=1 -c search_path=a\ b ")
    (dsn,) = planned({**SERVER, "query_timeout": 7}).conninfo
    assert parse_dsn(dsn)["options"] == (
        r"-c temp_buffers=128MB -c statement_timeout=1 -c search_path=a\ b "
        "-c statement_timeout=7"
    )


def test_no_password_is_in_the_repr_of_a_plan() -> None:
    """So it is in no message and no traceback of ours."""
    plan = plan_of({"db": SERVER, "groups": {"g": {"connection_count": 1}}})
    assert "secret" not in repr(plan)


def test_a_group_is_a_pool_with_these_settings() -> None:
    """Turns only where there are several; the rest where it is given."""
    others = {"timeout": None, "sqlprepare": True, "target_session_attrs": "any"}
    one, two = planned(SERVER), planned([SERVER, {**SERVER, "host": "db2"}], **others)
    assert one.given == {
        "name": "g",
        "max_size": 2,
        "autocommit": True,
        "reset": "session",
        "threaded": True,
    }
    assert two.given["balance"] == "round_robin"
    assert two.given["timeout"] is None
    assert isinstance(two.given["configure"], Prepare)
    wanted = [parse_dsn(dsn)["target_session_attrs"] for dsn in two.conninfo]
    assert wanted == ["any", "any"]


@pytest.mark.parametrize("value", [["threaded"], {}, None, 1.0])
def test_a_choice_may_be_anything_until_it_is_checked(value: object) -> None:
    """Also what cannot be hashed."""
    groups = {"g": {"connection_count": 1}}
    with pytest.raises(SettingsError, match=r"^type: must be one of "):
        plan_of({"type": value, "db": SERVER, "groups": groups})
