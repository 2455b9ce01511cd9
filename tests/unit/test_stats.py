"""What is counted, by the names that psycopg_pool has for it."""

import dataclasses

from pgdbpool import ConnectionPool
from pgdbpool.stats import Stats

# psycopg_pool 3.2, documentation, "Pool stats".
KEYS_OF_PSYCOPG_POOL = {
    "pool_min",
    "pool_max",
    "pool_size",
    "pool_available",
    "requests_waiting",
    "usage_ms",
    "requests_num",
    "requests_queued",
    "requests_wait_ms",
    "requests_errors",
    "returns_bad",
    "connections_num",
    "connections_ms",
    "connections_errors",
    "connections_lost",
}
# For means: of waits over who was served or refused, of holds over who has released.
OUR_OWN = {"requests_served", "requests_released"}


def test_the_keys_are_those_of_psycopg_pool() -> None:
    """A dashboard made for psycopg_pool finds every key it knows."""
    pool = ConnectionPool("host=nowhere.invalid")

    assert set(pool.get_stats()) == KEYS_OF_PSYCOPG_POOL | OUR_OWN


def test_a_new_pool_has_counted_nothing() -> None:
    """All counters begin at zero; the sizes are the settings."""
    stats = ConnectionPool("host=nowhere.invalid", min_size=2, max_size=3).get_stats()

    assert (stats.pop("pool_min"), stats.pop("pool_max")) == (2, 3)
    assert set(stats.values()) == {0}


def test_every_counter_is_told_under_its_name() -> None:
    """No counter is left out or told as another; times are whole milliseconds."""
    numbers = {field.name: i for i, field in enumerate(dataclasses.fields(Stats), 1)}

    told = Stats(**numbers).as_dict()

    for name, number in numbers.items():
        if name in told:
            assert told.pop(name) == number
    assert told == {
        "requests_wait_ms": numbers["requests_wait"] * 1000,
        "usage_ms": numbers["usage"] * 1000,
        "connections_ms": numbers["connections_time"] * 1000,
        "requests_served": numbers["requests_num"] - numbers["requests_unserved"],
    }


def test_times_are_told_in_whole_milliseconds() -> None:
    """Seconds inside, an integer of milliseconds outside, as psycopg_pool has it."""
    told = Stats(usage=0.0129).as_dict()

    assert told["usage_ms"] == 12
    assert all(type(value) is int for value in told.values())


def test_popping_begins_to_count_from_zero() -> None:
    """What was popped is told once."""
    pool = ConnectionPool("host=nowhere.invalid")
    pool._roster.stats.requests_num = 7

    assert pool.pop_stats()["requests_num"] == 7
    assert pool.get_stats()["requests_num"] == 0
