"""What a worker's pools get of the budget where some of them share a limit."""

from collections.abc import Iterator

import pytest

from pgdbpool import ConnectionPool, SharedLimit
from pgdbpool.gunicorn.service import Limits, demands_of_pools, sizes_of

LIMITS = Limits(workers=2, threads=8, total=60)


@pytest.fixture
def limit() -> SharedLimit:
    """Give a limit of 20."""
    return SharedLimit(20)


@pytest.fixture
def pools(limit: SharedLimit) -> Iterator[list[ConnectionPool]]:
    """Give 100 pools of tenants, on two servers, and one that has nobody's limit."""
    tenants = [
        ConnectionPool(f"host=db{number % 2} dbname=t{number}", shared_limit=limit)
        for number in range(100)
    ]
    pools = [*tenants, ConnectionPool("host=db0 dbname=shop")]
    yield pools
    for pool in pools:
        pool.close()


def test_those_that_share_a_limit_count_as_one(
    pools: list[ConnectionPool], limit: SharedLimit
) -> None:
    """What it allows is theirs, and the others divide the rest."""
    assert sizes_of(pools, LIMITS) == {limit: 20, pools[-1]: 8}


def test_a_server_may_get_all_that_a_limit_allows(pools: list[ConnectionPool]) -> None:
    """Once, however many pools lead there, and besides what others want."""
    demands = demands_of_pools(pools, LIMITS)

    assert [size for _, size in demands] == [28, 20]
