"""The load: a process of its own that drives the shop over HTTP.

Run as ``python -m pgdbpool.demo.load``. It writes one JSON object a line: the
figures so far every quarter of a second, at the end all it has seen. It ends
when its standard input does, so that it never outlives the demo.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

from pgdbpool.demo.client import Answer, Call, Client, perform
from pgdbpool.demo.parent import end_with_parent
from pgdbpool.demo.shop import ARTICLES, CUSTOMERS, ORDERS
from pgdbpool.demo.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
TICK = 0.25
# Of ten calls three place an order, four read one, three find a customer's.
MIX = "prfprfprfr"


@dataclasses.dataclass(frozen=True)
class Question:
    """A call, the key it writes if any, and what its answer must contain."""

    call: Call
    is_right: Callable[[Answer], bool]
    key: str | None = None


def questions(run: str, client: int) -> Iterator[Question]:
    """Yield what one client asks, without end and the same in every run."""
    for number in itertools.count():
        spread = number * 7919 + client * 104_729
        kind = MIX[(number + client) % len(MIX)]
        if kind == "p":
            yield _placing(f"{run}-{client}-{number}", spread)
        elif kind == "r":
            yield _reading(1 + spread % ORDERS)
        else:
            yield _finding(1 + spread % CUSTOMERS)


def drive(client: Client, asked: Iterator[Question], tally: Tally, pace: Pace) -> None:
    """Ask one question after the other until the time is over."""
    while pace.wait():
        question = next(asked)
        began = time.monotonic()
        outcome = perform(question.call, client.send, time.sleep, question.is_right)
        tally.add(outcome, time.monotonic() - began, question.key)
    client.close()


class Pace:
    """When one client may ask its next question: at most so many a second."""

    def __init__(self, first: float, interval: float, end: float) -> None:
        """Take moments of the monotonic clock and the seconds between two calls."""
        self._next = first
        self._interval = interval
        self._end = end

    def wait(self) -> bool:
        """Sleep until the next call is due; False when the time is over.

        What an outage delayed is not made up for in a burst.
        """
        if self._next >= self._end:
            return False
        now = time.monotonic()
        if now >= self._end:
            return False
        time.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + self._interval
        return True


def main() -> None:
    """Drive the shop as the command line says, and tell what was seen."""
    options = _options()
    end_with_parent(lambda: os._exit(1))
    tally = Tally()
    with futures.ThreadPoolExecutor(options.clients) as threads:
        clients = [
            threads.submit(drive, client, asked, tally, pace)
            for client, asked, pace in _clients(options)
        ]
        while futures.wait(clients, TICK).not_done:
            _tell(dataclasses.asdict(tally.recent()))
        for client in clients:
            client.result()
    acknowledged, unknown = tally.keys()
    _tell(
        {
            "total": dataclasses.asdict(tally.total()),
            "acknowledged": acknowledged,
            "unknown": unknown,
            "reasons": tally.reasons(),
        }
    )


def _clients(
    options: argparse.Namespace,
) -> Iterator[tuple[Client, Iterator[Question], Pace]]:
    began = time.monotonic()
    end = began + options.seconds
    interval = options.clients / options.rate
    for number in range(options.clients):
        pace = Pace(began + number / options.rate, interval, end)
        yield Client(HOST, options.port), questions(options.run, number), pace


def _placing(key: str, spread: int) -> Question:
    wanted = {
        "customer": 1 + spread % CUSTOMERS,
        "article": 1 + spread % ARTICLES,
        "quantity": 1 + spread % 5,
    }
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    call = Call("POST", "/orders", json.dumps(wanted).encode(), headers)
    return Question(call, lambda answer: _content(answer)["key"] == key, key)


def _reading(number: int) -> Question:
    call = Call("GET", f"/orders/{number}")
    return Question(call, lambda answer: _content(answer)["id"] == number)


def _finding(customer: int) -> Question:
    call = Call("GET", f"/orders?customer={customer}")
    return Question(call, lambda answer: _all_of(customer, answer))


def _all_of(customer: int, answer: Answer) -> bool:
    orders = json.loads(answer.body)
    return bool(orders) and all(order["customer"] == customer for order in orders)


def _content(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(answer.body)
    return content


def _tell(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pgdbpool.demo.load")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--run", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
