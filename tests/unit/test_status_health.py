"""What probes are told, by whom they come and of which pools."""

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pgdbpool.pool import ConnectionPool
from pgdbpool.snapshot import PoolHealth
from pgdbpool.status import HealthApp, health
from tests.unit.test_status_access import ELSEWHERE, LOCAL, ask


class Pool(ConnectionPool):
    """A pool that says how it is without asking anybody."""

    def __init__(self, name: str, *, is_up: bool) -> None:
        super().__init__("host=nowhere.invalid", open=False, name=name)
        self.is_up = is_up

    def health(self) -> PoolHealth:
        """Return what the test set."""
        return PoolHealth(
            write_ready=self.is_up, read_ready=self.is_up, saturated=False, reasons=()
        )

    @property
    def closed(self) -> bool:
        """Whether it is; these are not."""
        return False


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ConnectionPool]]:
    """Give the pools of the process; those of other tests are none of them."""
    pools: list[ConnectionPool] = []
    monkeypatch.setattr("pgdbpool.status.shown.all_pools", lambda: list(pools))
    yield pools
    gc.collect()


def probe(app: HealthApp, **environ: object) -> tuple[int, Any]:
    """Return the status and the content of an answer, as this machine is told."""
    status, _, text = ask(app, "/readyz", **{**LOCAL, **environ})
    return status, json.loads(text)


@pytest.mark.parametrize("order", [1, -1])
def test_pools_of_one_name_do_not_hide_each_other(order: int) -> None:
    """One that is down is enough, whichever comes first; each is in the answer."""
    pools = [Pool("shop", is_up=False), Pool("shop", is_up=True)][::order]
    status, answer = probe(HealthApp(*pools, Pool("shop (2)", is_up=True)))
    assert status == 503
    told = {name: one["write_ready"] for name, one in answer["pools"].items()}
    assert list(told) == ["shop", "shop (2)", "shop (2) (2)"]
    assert list(told.values()) == [*(pool.is_up for pool in pools), True]


def test_a_pool_that_was_closed_counts_no_more(alone: list[ConnectionPool]) -> None:
    """Where none were given; somebody may have it still, and nobody wants it."""
    alone.append(ConnectionPool("host=nowhere.invalid", open=False, name="closed"))
    status, answer = probe(HealthApp())
    assert (status, answer["reasons"]) == (503, ["there is no pool that is open"])
    alone.append(Pool("shop", is_up=True))
    status, answer = probe(HealthApp())
    assert (status, list(answer["pools"])) == (200, ["shop"])
    assert probe(HealthApp(*alone))[0] == 503


@pytest.mark.parametrize(
    "environ",
    [
        ELSEWHERE,
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"SERVER_PROTOCOL": "HTTP/1.0"},
        {"HTTP_HOST": "shop.example"},
    ],
    ids=["elsewhere", "proxy", "old", "name"],
)
def test_strangers_learn_no_more_than_yes_or_no(environ: dict[str, object]) -> None:
    """Unless they are meant to; hosts, users and errors are for this machine."""
    pool = ConnectionPool("host=db1.example user=shop", open=False)
    status, answer = probe(HealthApp(pool), **environ)
    assert status == 503
    assert answer == {
        "ready": False,
        "write_ready": False,
        "read_ready": False,
        "saturated": False,
    }
    assert "pools" in probe(HealthApp(pool))[1]
    assert "pools" in probe(HealthApp(pool, details=True), **environ)[1]
    assert "pools" not in probe(HealthApp(pool, details=False))[1]


def test_no_two_keys_are_the_same() -> None:
    """However odd the names."""
    names = ["a", "a", "a (2)", "a", "a (3)"]
    found = [Pool("a", is_up=True).health()] * len(names)
    assert len(health.by_name(names, found)) == len(names)
