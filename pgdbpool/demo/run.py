"""The demo from its first process to its last, and nothing left behind it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2

from pgdbpool.demo.app import STATUS
from pgdbpool.demo.database import FROZEN, Database
from pgdbpool.demo.driver import Driver
from pgdbpool.demo.errors import DemoError
from pgdbpool.demo.programs import EmbeddedPostgresError
from pgdbpool.demo.report import Moment, Report
from pgdbpool.demo.server import Server, listen
from pgdbpool.demo.shop import ORDERS, Shop
from pgdbpool.demo.signals import FREEZE as FREEZING
from pgdbpool.demo.signals import RESTART as RESTARTING
from pgdbpool.demo.signals import Interrupted, Signals
from pgdbpool.demo.verdict import judge
from pgdbpool.demo.watch import Watch

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from pgdbpool.demo.tally import Figures

TICK = 0.1
# What can be done to the database, and what is said meanwhile.
RESTART = ("restart PostgreSQL", "restarting PostgreSQL …")
SWITCH_OVER = ("switch over to a standby", "switching over to a standby …")
ENDED = "Stopped."


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line asked for.

    Attributes:
        dsn: The database to use; None for one of the demo's own.
        workers: Processes of gunicorn.
        threads: Threads of each.
        port: Where to serve; 0 takes any free one.
        seconds: How long to drive the shop; None to serve until Ctrl-C.
        as_json: Whether the last line of standard output is the result as JSON;
            all else then goes to standard error.
        standbys: How many follow the primary of the demo's own.
    """

    dsn: str | None = None
    workers: int = 2
    threads: int = 4
    port: int = 8000
    seconds: float | None = None
    as_json: bool = False
    standbys: int = 0


def run(options: Options) -> int:
    """Run the demo and return its exit status. Blocks.

    Installs signal handlers, so it is for the main thread.
    """
    report = Report(sys.stderr if options.as_json else sys.stdout)
    with Signals() as signals:
        try:
            with contextlib.closing(listen(options.port)) as listener:
                status = Demo(options, report, signals).run(listener)
        except (DemoError, EmbeddedPostgresError, psycopg2.Error, Interrupted) as error:
            # A Ctrl-C reaches the whole group: initdb may fail because of it.
            if signals.exit_status is not None:
                report.say(ENDED)
                return signals.exit_status
            Report(sys.stderr).say(f"pgdbpool demo: {str(error).strip()}", "red")
            return 1
        if signals.exit_status is not None:
            report.say(ENDED)
    return status


class Demo:
    """One run: the database, the server and the load, each with its owner."""

    def __init__(self, options: Options, report: Report, signals: Signals) -> None:
        """Take what was asked for; nothing is started yet."""
        self._options = options
        self._report = report
        self._signals = signals
        self._freezes_told = 0

    def run(self, listener: socket.socket) -> int:
        """Serve, or drive for the time asked for; return the exit status. Blocks."""
        with contextlib.ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="pgdbpool-demo-")
            logs = Path(stack.enter_context(folder))
            database = stack.enter_context(self._database())
            shop = stack.enter_context(self._shop(database))
            server = stack.enter_context(self._server(listener, shop, logs))
            self._introduce(server, database)
            if self._options.seconds is None:
                return self._serve(server, database)
            watch = stack.enter_context(Watch(shop))
            driver = stack.enter_context(Driver(logs / "load.log"))
            self._drive(database, server, watch, driver)
            return self._judge(database, shop, driver)

    @contextlib.contextmanager
    def _database(self) -> Iterator[Database]:
        database = Database(self._options.dsn, self._options.standbys)
        if database.has_standbys:
            number = f"{self._options.standbys} standby"
            number += "s" if self._options.standbys > 1 else ""
            self._report.say(f"starting PostgreSQL and {number} …")
        elif database.is_ours:
            self._report.say("starting PostgreSQL in a temporary directory …")
        with database:
            self._signals.check()
            yield database

    @contextlib.contextmanager
    def _shop(self, database: Database) -> Iterator[Shop]:
        """Fill a shop; where the database outlives the demo, remove it at the end."""
        shop = Shop(database.dsn)

        with self._report.progress("filling the shop", ORDERS) as show:

            def step(done: int) -> None:
                self._signals.check()
                show(done)

            shop.create(step)
        database.wait_until_replayed()
        try:
            yield shop
        finally:
            if not database.is_ours:
                self._remove(shop)

    def _remove(self, shop: Shop) -> None:
        try:
            shop.drop()
        except psycopg2.Error as error:
            self._report.say(
                f"The schema {shop.name} is still there, remove it by hand: {error}",
                "red",
            )

    @contextlib.contextmanager
    def _server(
        self, listener: socket.socket, shop: Shop, logs: Path
    ) -> Iterator[Server]:
        server = Server(listener, logs, is_ours=self._options.dsn is None)
        try:
            server.start(shop.dsn, self._options.workers, self._options.threads)
            server.wait_until_ready(self._signals)
            yield server
        finally:
            server.stop()

    def _introduce(self, server: Server, database: Database) -> None:
        options, say = self._options, self._report.say
        size = f"{options.workers} workers of {options.threads} threads"
        say(f"\nThe shop is open at {server.address} ({size}).", "bold")
        for command, what in _to_try(server):
            say(f"  {command:<50} {what}".rstrip())
        if database.is_ours:
            here = os.getpid()
            what = _words(database)[0]
            say(f"  {f'kill -USR1 {here}':<50} {what} under it, as a button does")
            say(f"  {f'kill -USR2 {here}':<50} freeze it for {FROZEN:g} s, as another")
        say(f"  {f'tail -f {server.log}':<50} gunicorn's and pool's log")
        say()

    def _serve(self, server: Server, database: Database) -> int:
        self._report.say("Ctrl-C ends it and leaves nothing behind.")
        # Here the end is what the user has been told to ask for.
        with contextlib.suppress(Interrupted):
            while True:
                self._signals.pause(TICK)
                server.check()
                database.check()
                self._disturb_if_asked(database)
        return 0

    def _disturb_if_asked(self, database: Database) -> None:
        """Restart or freeze when a signal has come, and say so; one at a time."""
        if database.freezes > self._freezes_told:
            self._freezes_told = database.freezes
            self._report.say("PostgreSQL goes on.")
        is_restart, is_freeze = map(self._signals.take, (RESTARTING, FREEZING))
        if database.is_disturbed or not database.is_ours:
            return
        if is_restart:
            self._report.say(_words(database)[1])
            database.begin_disturbance()
        elif is_freeze:
            self._report.say(f"freezing PostgreSQL for {FROZEN:g} s …")
            database.begin_freeze()

    def _drive(
        self, database: Database, server: Server, watch: Watch, driver: Driver
    ) -> None:
        options = self._options
        seconds = options.seconds or 0.0
        if not database.is_ours:
            self._report.say(
                "PostgreSQL is yours, so it is not restarted: restart it yourself "
                "meanwhile, or leave out --dsn."
            )
        is_due = True
        clients = 2 * options.workers * options.threads
        driver.start(server.port, seconds, clients, secrets.token_hex(4))
        began = time.monotonic()
        with self._report.live_line() as show:
            while driver.is_running or database.is_disturbed:
                self._signals.pause(TICK)
                server.check()
                database.check()
                elapsed = time.monotonic() - began
                if self._signals.take(RESTARTING):
                    database.begin_disturbance()
                if self._signals.take(FREEZING):
                    database.begin_freeze()
                if is_due and elapsed >= seconds / 2:
                    is_due = False
                    database.begin_disturbance()
                show(_moment(elapsed, driver.latest, watch, database))

    def _judge(self, database: Database, shop: Shop, driver: Driver) -> int:
        """Look every key up, and show the result."""
        seen = driver.seen()
        keys = seen.acknowledged + seen.unknown
        self._report.say(f"looking up {len(keys):,} writes …")
        counts = shop.count_keys(keys, self._signals.check)
        self._signals.check()
        result, notes = judge(seen, counts, database.restarts, database.switch_overs)
        self._report.table(result, notes)
        if self._options.as_json:
            sys.stdout.write(result.as_json() + "\n")
            sys.stdout.flush()
        return 0 if result.is_good else 1


def _words(database: Database) -> tuple[str, str]:
    return SWITCH_OVER if database.has_standbys else RESTART


def _to_try(server: Server) -> list[tuple[str, str]]:
    here = server.address
    return [
        (f"curl {here}/", "what there is"),
        (f"curl {here}/orders/42", "one order"),
        (f"curl '{here}/orders?customer=7'", "the latest of a customer"),
        (f"curl -d customer=7 -d article=3 -d quantity=2 {here}/orders", ""),
        (f"curl -s {here}/orders.csv | wc -l", "all of them, streamed"),
        (f"curl {here}/pool", "a worker's pool"),
        (f"curl '{here}/slow?seconds=9'", "a connection that is kept: see the page"),
        (f"curl {here}/readyz", "whether it can serve; /metrics for Prometheus"),
        (f"{here}{STATUS}/", "all pools live, for a browser"),
        (f"pgdbpool top {here}{STATUS}/", "the same in a terminal"),
    ]


def _moment(
    elapsed: float, figures: Figures, watch: Watch, database: Database
) -> Moment:
    state = "up" if watch.is_up else "down"
    if database.is_disturbed:
        state = "switching over" if database.has_standbys else "restarting"
    return Moment(elapsed, figures, watch.connections, state, watch.servers)
