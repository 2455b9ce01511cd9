"""Requests that read from a standby, and see what their client wrote before."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool import ConnectionPool, PooledConnection, PoolMiddleware
from pgdbpool.demo.cluster import Cluster
from pgdbpool.demo.standby import ask
from pgdbpool.wsgi import ReadYourWrites
from pgdbpool.wsgi.rules import Application, Environ, StartResponse
from tests.soundness import assert_at_rest
from tests.waiting import until
from tests.webtesting import TestApp

TEXT = [("Content-Type", "text/plain")]
SECRET = "correct horse battery staple"
HEADER = "X-Written"
IS_PAUSED = "SELECT pg_get_wal_replay_pause_state() = 'paused'"


@pytest.fixture
def cluster(breakable: Cluster) -> Cluster:
    """Give a primary and standbys, with an empty table `notes`, replayed."""
    ask(breakable.primary, "DROP TABLE IF EXISTS notes")
    ask(breakable.primary, "CREATE TABLE notes (note text)")
    breakable.wait_until_replayed()
    return breakable


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[ConnectionPool]:
    """Give a pool that has found a standby, however far that is behind."""
    dsns = [server.dsn() for server in cluster.servers]
    with ConnectionPool(endpoints=dsns, max_size=4, max_lag=None) as pool:
        until(lambda: is_standbys(pool), message="a standby serves")
        yield pool


@pytest.fixture
def _paused(cluster: Cluster) -> Iterator[None]:
    """Keep the standbys from replaying anything."""
    for standby in cluster.standbys:
        ask(standby, "SELECT pg_wal_replay_pause()")
    until(lambda: all(ask(standby, IS_PAUSED) for standby in cluster.standbys))
    yield
    resume(cluster)


def resume(cluster: Cluster) -> None:
    """Let the standbys replay again, and wait until they have."""
    for standby in cluster.standbys:
        ask(standby, "SELECT pg_wal_replay_resume()")
    cluster.wait_until_replayed()


def is_standbys(pool: ConnectionPool) -> bool:
    """Whether what the pool gives to read is a standby's."""
    conn = pool.acquire(read_only=True)
    try:
        with conn.cursor() as cur:
            cur.execute("SELECT pg_is_in_recovery()")
            return bool(cur.fetchone() == (True,))
    finally:
        pool.release(conn, conn.hold)


def notes(conn: Any) -> str:  # noqa: ANN401 - a proxy
    """Return all notes and who told them."""
    with conn.cursor() as cur:
        cur.execute("SELECT pg_is_in_recovery(), array(SELECT note FROM notes)")
        is_standby, found = cur.fetchone()
    return f"{'standby' if is_standby else 'primary'}: {' '.join(sorted(found))}"


def app(environ: Environ, start: StartResponse) -> list[bytes]:
    """Tell all notes; with POST, store the one that the path names."""
    note = environ["PATH_INFO"].strip("/")
    if environ["REQUEST_METHOD"] == "POST":
        with environ["pgdbpool.conn"].cursor() as cur:
            cur.execute("INSERT INTO notes VALUES (%s)", (note,))
    told = notes(environ["pgdbpool.conn"])
    start("200 OK", TEXT)
    return [told.encode()]


def serving(
    pool: ConnectionPool, application: Application = app, **settings: object
) -> PoolMiddleware:
    """Return an application whose GETs read."""
    return PoolMiddleware(application, pool, read_methods=("GET", "HEAD"), **settings)


def marks() -> ReadYourWrites:
    """Return a cookie and a header."""
    return ReadYourWrites(SECRET, header=HEADER)


def test_what_reads_is_the_standbys_and_what_writes_the_primarys(
    pool: ConnectionPool, cluster: Cluster
) -> None:
    """By method."""
    client = TestApp(serving(pool))
    assert client.post("/mine").text == "primary: mine"
    cluster.wait_until_replayed()
    assert client.get("/").text == "standby: mine"


def test_a_read_method_cannot_write(pool: ConnectionPool) -> None:
    """Wherever it is served: its transactions are READ ONLY."""

    def writing(environ: Environ, start: StartResponse) -> list[bytes]:
        environ["pgdbpool.conn"].cursor().execute("INSERT INTO notes VALUES ('no')")
        start("200 OK", TEXT)
        return []

    with pytest.raises(sqlstate.ReadOnlySqlTransaction):
        TestApp(serving(pool, writing)).get("/")
    # That says nothing against the standby.
    assert TestApp(serving(pool)).get("/").text == "standby: "


@pytest.mark.usefixtures("_paused")
def test_who_writes_reads_beside_it_from_the_primary_only_afterwards(
    pool: ConnectionPool,
) -> None:
    """`environ["pgdbpool.read"]` before and after the first write."""

    def both(environ: Environ, start: StartResponse) -> list[bytes]:
        before = notes(environ["pgdbpool.read"])
        written = app(environ, lambda *_: None)
        after = notes(environ["pgdbpool.read"])
        assert written == [after.encode()]
        start("200 OK", TEXT)
        return [f"{before} | {after}".encode()]

    client = TestApp(serving(pool, both))
    assert client.post("/mine").text == "standby:  | primary: mine"
    assert_at_rest(pool)


@pytest.mark.usefixtures("_paused")
@pytest.mark.parametrize("way", ["cookie", "header"])
def test_a_client_reads_what_it_wrote(
    pool: ConnectionPool, cluster: Cluster, way: str
) -> None:
    """From the primary, until a standby has replayed it; others need not wait."""
    middleware = serving(pool, read_your_writes=marks())
    writer, other = TestApp(middleware), TestApp(middleware)
    written = writer.post("/mine").headers
    brought = {}
    if way == "header":
        writer.reset()
        brought = {HEADER: written[HEADER]}
        assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", written[HEADER])
    assert writer.get("/", headers=brought).text == "primary: mine"
    assert other.get("/").text == "standby: "
    resume(cluster)
    until(lambda: writer.get("/", headers=brought).text == "standby: mine")


@pytest.mark.usefixtures("_paused")
@pytest.mark.parametrize("value", ["", "0/0", "G/1", "no position", "1/" + "F" * 99])
def test_a_wrong_position_is_ignored(pool: ConnectionPool, value: str) -> None:
    """The read is served as if nothing had come with it."""
    client = TestApp(serving(pool, read_your_writes=marks()))
    client.set_cookie("pgdbpool_written", f"{value}.forged")
    assert client.get("/", headers={HEADER: value}).text == "standby: "


@pytest.mark.usefixtures("_paused")
@pytest.mark.parametrize("transaction", ["request", "manual"])
def test_a_commit_by_hand_is_told(pool: ConnectionPool, transaction: str) -> None:
    """Also where another transaction is open when the headers go out."""

    def by_hand(environ: Environ, start: StartResponse) -> Iterator[bytes]:
        conn = environ["pgdbpool.conn"]
        with conn, conn.cursor() as cur:
            cur.execute("INSERT INTO notes VALUES ('mine')")
        told = notes(conn)
        start("200 OK", TEXT)
        yield told.encode()
        yield b"!"

    ways = marks()
    settings = {"read_your_writes": ways, "transaction": transaction}
    written = TestApp(serving(pool, by_hand, **settings)).post("/").headers
    reader = TestApp(serving(pool, read_your_writes=ways))
    told = reader.get("/", headers={HEADER: written[HEADER]}).text
    assert told == "primary: mine"


@pytest.mark.usefixtures("_paused")
def test_what_autocommit_wrote_is_told(cluster: Cluster) -> None:
    """Each statement is its own transaction, and all are committed by then."""
    dsns = [server.dsn() for server in cluster.servers]

    def configure(conn: PooledConnection) -> None:
        conn.autocommit = True

    with ConnectionPool(endpoints=dsns, max_lag=None, configure=configure) as pool:
        until(lambda: is_standbys(pool))
        client = TestApp(serving(pool, read_your_writes=marks()))
        assert HEADER in client.post("/mine").headers
        assert client.get("/").text == "primary: mine"


def test_a_request_that_rolled_back_tells_nothing(pool: ConnectionPool) -> None:
    """Its client wrote nothing."""

    def failing(environ: Environ, start: StartResponse) -> list[bytes]:
        app(environ, lambda *_: None)
        start("500 Oops", TEXT)
        return []

    client = TestApp(serving(pool, failing, read_your_writes=marks()))
    headers = client.post("/mine", status=500).headers
    assert HEADER not in headers
    assert "Set-Cookie" not in headers


def test_a_reading_session_that_is_lost_is_answered_503(
    pool: ConnectionPool, cluster: Cluster
) -> None:
    """It loses nothing, and the next request is served."""
    killed: list[int] = []

    def losing(environ: Environ, start: StartResponse) -> list[bytes]:
        read = environ["pgdbpool.read"]
        if not killed:
            killed.append(read.info.backend_pid)
            (standby,) = (s for s in cluster.standbys if s.port == read.info.port)
            ask(standby, "SELECT pg_terminate_backend(%s, 5000)", killed[0])
        told = notes(read)
        start("200 OK", TEXT)
        return [told.encode()]

    client = TestApp(serving(pool, losing))
    refused = client.post("/", status=503)
    assert refused.headers["Retry-After"]
    until(lambda: client.post("/").text == "standby: ")


def test_without_a_standby_the_primary_serves_reads(
    pool: ConnectionPool, cluster: Cluster
) -> None:
    """And still nothing can be written by a GET."""
    for standby in cluster.standbys:
        standby.stop("fast")
    client = TestApp(serving(pool))
    assert client.get("/").text == "primary: "


def test_many_clients_all_read_what_they_wrote(
    pool: ConnectionPool,
) -> None:
    """A storm: nobody misses its own note, and the standby serves some of the reads."""
    middleware = serving(pool, read_your_writes=marks())
    told: list[tuple[str, str]] = []
    together = threading.Barrier(4)
    enough = threading.Event()

    def run(name: str) -> None:
        client = TestApp(middleware)
        together.wait(10)
        for number in range(400):
            note = f"{name}-{number}"
            client.post(f"/{note}")
            told.extend((note, client.get("/").text) for _ in range(4))
            if enough.is_set():
                break

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    try:
        until(
            lambda: sum(said.startswith("standby") for _, said in told[:]) > 20,
            timeout=20.0,
            message="the standby serves what it has replayed",
        )
    finally:
        enough.set()
        for thread in threads:
            thread.join(20)
    missed = [note for note, said in told if note not in said.split()]
    assert missed == []
    assert any(said.startswith("primary") for _, said in told)


def test_psycopg2_finds_its_driver_errors_untouched(pool: ConnectionPool) -> None:
    """What a standby refuses for its own reasons is the application's."""

    def locking(environ: Environ, start: StartResponse) -> list[bytes]:
        environ["pgdbpool.read"].cursor().execute("SELECT * FROM notes FOR UPDATE")
        start("200 OK", TEXT)
        return []

    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        TestApp(serving(pool, locking)).post("/")
