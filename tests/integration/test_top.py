"""`pgdbpool top` before a real status page."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from pgdbpool import ConnectionPool
from pgdbpool.commands.top import top
from pgdbpool.demo.postgres import free_port
from pgdbpool.top.past import OVERLAP
from pgdbpool.top.source import Source, SourceError
from tests.integration.pages import COMMAND, Answering, served, status_of
from tests.unit.top_states import NOW, held, state_of, worker
from tests.waiting import until

TOKEN = "open-sesame"
GIVE = "give that address, if it is right"
OTHER = (
    "is the status page of another version, which has something else to show; "
    "run the pgdbpool top of that version"
)
TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool]:
    """Give a pool."""
    with ConnectionPool(dsn, name="shop", max_size=3) as pool:
        pool.wait()
        yield pool


def once(*arguments: str, **environ: str | None) -> Result:
    """Run the command for one look."""
    return CliRunner(env=environ).invoke(top, [*arguments, "--once"])


def test_one_look_shows_who_has_a_connection(pool: ConnectionPool) -> None:
    """Verdict, pool, server, and the line that acquired; later the sessions too."""
    with status_of(pool) as app, served(app) as url:
        conn = pool.acquire(request="GET /report")
        try:
            told = once(url)
        finally:
            pool.release(conn, conn.hold)
        sessions = until(lambda: "asks for this" in once(url).output)

    assert told.exit_code == 0
    assert "shop  all well" in told.output
    assert f"shop  {pool.endpoints[0].name}  primary  up" in told.output
    assert "1/3" in told.output
    assert "GET /report" in told.output
    assert "integration/test_top.py:" in told.output
    assert sessions


def test_charts_are_there_as_soon_as_a_second_is_over(pool: ConnectionPool) -> None:
    """Of what the pool did since somebody looked."""
    with status_of(pool) as app, served(app) as url:

        def acquires() -> bool:
            with pool.connection():
                pass
            lines = once(url).output.splitlines()
            (line,) = (line for line in lines if line.startswith("acquires"))
            return line.split()[-1] not in ("-", "0/s")

        assert until(acquires)


def test_a_page_with_a_token_is_opened_by_it(pool: ConnectionPool) -> None:
    """By option or variable; without, the way to give it is told, and no token."""
    with status_of(pool, token=TOKEN) as app, served(app) as url:
        assert once(url, "--token", TOKEN).exit_code == 0
        assert once(url, PGDBPOOL_STATUS_TOKEN=f" {TOKEN}\n").exit_code == 0
        for refused in (once(url), once(url, "--token", "wrong-one")):
            assert refused.exit_code == 1
            assert "is closed to you (401): give its token" in refused.output
            assert "wrong-one" not in refused.output


def test_a_token_may_have_any_letters(pool: ConnectionPool) -> None:
    """The page takes it as UTF-8, and so it is sent."""
    token = "schlüssel-ключ-€"
    with status_of(pool, token=token) as app, served(app) as url:
        assert once(url, "--token", token).exit_code == 0
        assert once(url, "--token", token[:-1]).exit_code == 1


def test_the_token_is_for_the_page_alone() -> None:
    """A redirection is told and not followed."""
    other = Answering("200 OK", b"{}", **TEXT)
    with served(other) as elsewhere:
        away = Answering("302 Found", Location=f"{elsewhere}pools/status.json?since=0")
        with served(away) as url:
            told = once(url, "--token", TOKEN)

    assert (told.exit_code, told.output) == (
        1,
        f"pgdbpool top: {url}status.json redirects to {elsewhere}pools/: {GIVE}\n",
    )
    assert away.asked[0]["HTTP_AUTHORIZATION"] == f"Bearer {TOKEN}"
    assert other.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_stands_between_a_machine_and_itself(
    pool: ConnectionPool, host: str
) -> None:
    """It would read the token."""
    proxy = Answering("200 OK", b"{}", **TEXT)
    with status_of(pool, token=TOKEN) as app, served(app) as url, served(proxy) as via:
        address = url.replace("127.0.0.1", host)
        environ = {"http_proxy": via, "no_proxy": None, "NO_PROXY": None}
        told = once(address, "--token", TOKEN, **environ)

    assert told.exit_code == 0
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("app", "complaint"),
    [
        (Answering("200 OK", b"hello", **TEXT), "is no status page"),
        (Answering("200 OK", b"[" * 100_000, **TEXT), "is no status page"),
        (Answering("200 OK", b"{}", **TEXT), "is no status page"),
        (Answering("200 OK", b"\xff", **TEXT), "is no status page"),
        (
            Answering("200 OK", b'{"workers": []}', **TEXT),
            OTHER,
        ),
        (Answering("404 Not Found"), "is not there (404)"),
        (Answering("502 Bad Gateway"), "answers 502"),
        (Answering("599 Nobody Knows"), "answers 599"),
        (Answering("304 Not Modified"), "answers 304"),
        (Answering("403 Forbidden"), None),
    ],
)
def test_what_is_no_status_page_is_told(app: Answering, complaint: str | None) -> None:
    """Neither a traceback nor an endless wait."""
    with served(app) as url:
        told = once(url)
    complaint = complaint or (
        "is closed to you (403): give its token with --token or PGDBPOOL_STATUS_TOKEN"
    )
    assert (told.exit_code, told.output) == (
        1,
        f"pgdbpool top: {url}status.json {complaint}\n",
    )


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_service_that_ends_in_the_middle_of_an_answer_may_come_back(
    left: int,
) -> None:
    """Its length says that there was more to come."""
    whole = json.dumps(state_of(worker(4711))).encode()
    length = {"Content-Length": str(len(whole))}
    with (
        served(Answering("200 OK", whole[: left and -left], **length)) as url,
        pytest.raises(SourceError, match="json: its answer was cut off") as caught,
    ):
        Source(url, None).look()
    assert caught.value.may_pass


@pytest.mark.parametrize("body", [b"", b'{"workers": [', b"<h1>Back soon</h1>"])
def test_a_page_that_was_there_may_come_back(body: bytes) -> None:
    """An answer that tells no length was cut off, or it is a proxy's meanwhile.

    One that is complete, and not of a page, is another application's.
    """
    port = free_port()
    page = Answering("200 OK", json.dumps(state_of(worker(4711))).encode())
    with served(page, port) as url:
        source = Source(url, None)
        source.look()
    for told, may_pass in ((body, True), (b"{}", False)):
        with (
            served(Answering("200 OK", told, **TEXT), port),
            pytest.raises(SourceError, match="is no status page") as caught,
        ):
            source.look()
        assert caught.value.may_pass is may_pass


def test_only_what_is_new_is_asked_for() -> None:
    """By the service's own clock."""
    page = Answering("200 OK", json.dumps(state_of(worker(4711))).encode())
    with served(page) as url:
        source = Source(url, None)
        for _ in range(2):
            source.look()
    asked = [one["QUERY_STRING"] for one in page.asked]
    assert asked == ["since=0", f"since={NOW - OVERLAP}"]


def test_that_nobody_answers_is_told() -> None:
    """With the reason."""
    nobody = once(f"http://127.0.0.1:{free_port()}/")
    assert nobody.exit_code == 1
    assert "Connection refused" in nobody.output


def test_without_a_terminal_there_is_one_look() -> None:
    """Else nothing would ever be printed."""
    told = CliRunner().invoke(top, ["http://127.0.0.1:1/"])
    assert told.exit_code == 2
    assert "there is no terminal to draw in: give --once" in told.output


def test_in_a_pipe_nothing_is_cut() -> None:
    """Lines are as long as they have to be, in whatever encoding there is."""
    route = f"GET /{'long-' * 30}žluť [/b]"
    state = state_of(worker(4711, sessions=[held(1.0, request=route)]))
    told = {}
    with served(Answering("200 OK", json.dumps(state).encode(), **TEXT)) as url:
        for encoding in ("utf-8", "latin-1", "ascii"):
            told[encoding] = subprocess.run(
                [*COMMAND, url, "--once"],
                check=True,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONIOENCODING": encoding},
            ).stdout.decode(encoding)

    assert f" {route}  " in told["utf-8"]
    assert "□ idle" in told["utf-8"]
    for encoding in ("latin-1", "ascii"):
        assert f" GET /{'long-' * 30}?lu? [/b]  " in told[encoding]
        assert "o idle" in told[encoding]
