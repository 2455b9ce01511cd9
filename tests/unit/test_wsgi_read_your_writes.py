"""A client's reads see what it wrote: how far they must see travels with it."""

from collections.abc import Callable
from typing import Any

import pytest
from itsdangerous import TimestampSigner
from werkzeug.http import parse_cookie

from pgdbpool.errors import SettingsError
from pgdbpool.wsgi import ReadYourWrites
from tests.fresh import run
from tests.unit.scripted_standbys import (
    WRITTEN,
    WRITTEN_TEXT,
    ScriptedStandbys,
    using,
)
from tests.unit.wsgi_writing import (
    COMES_AS,
    HEADER,
    SECRET,
    Clock,
    cookie,
    cookies,
    position_read,
    serving,
    told,
    write,
)


@pytest.fixture
def pool() -> ScriptedStandbys:
    """Give a pool that writes down what is asked of it."""
    return ScriptedStandbys()


@pytest.fixture
def clock() -> Clock:
    """Give the clock of the cookies."""
    return Clock()


@pytest.fixture
def both(clock: Clock) -> ReadYourWrites:
    """Give a cookie and a header."""
    return ReadYourWrites(SECRET, header=HEADER, clock=clock)


class TestJourney:
    """What a write leaves behind, the next read brings along."""

    def test_by_cookie(self, pool: ScriptedStandbys, both: ReadYourWrites) -> None:
        """As a browser does."""
        brought = cookie(write(pool, both))
        read = position_read(pool, both, HTTP_COOKIE=f"other=1; {brought}; more=2")
        assert read == f"acquire to read after {WRITTEN:X}"

    def test_by_header(self, pool: ScriptedStandbys, both: ReadYourWrites) -> None:
        """As an API client does."""
        brought = told(write(pool, both))
        assert brought == WRITTEN_TEXT
        read = position_read(pool, both, **{COMES_AS: brought})
        assert read == f"acquire to read after {WRITTEN:X}"

    def test_the_newer_one_counts(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Of a cookie and a header, and of many cookies."""
        old = cookie(write(pool, both))
        pool.position = 0x1_0000_00FF
        new = cookie(write(pool, both))
        for brought in (f"{old}; {new}", f"{new}; {old}"):
            read = position_read(pool, both, HTTP_COOKIE=brought)
            assert read == "acquire to read after 1000000FF"
        read = position_read(pool, both, HTTP_COOKIE=old, **{COMES_AS: "1/FF"})
        assert read == "acquire to read after 1000000FF"

    def test_what_reads_beside_brings_it_too(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """In a request that may write, before it does."""
        write(pool, both, using("read: SELECT"), **{COMES_AS: "0/FF"})
        assert pool.log[0] == "acquire to read after FF"

    def test_its_own_writes_need_no_position(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """The primary has them all."""
        write(pool, both, **{COMES_AS: "0/FF"})
        assert pool.log[0] == "acquire"

    def test_a_client_that_wrote_nothing_brings_nothing(
        self, pool: ScriptedStandbys, both: ReadYourWrites
    ) -> None:
        """Any standby within max_lag serves it."""
        assert position_read(pool, both) == "acquire to read"


class TestCookie:
    """It is signed, kept for a while, and heeded only if it is ours."""

    def test_its_attributes(self, pool: ScriptedStandbys, clock: Clock) -> None:
        """No script reads it, no other site sends it."""
        marks = ReadYourWrites(SECRET, cookie="mine", max_age=2.5, clock=clock)
        (said,) = cookies(write(pool, marks))
        name, *attributes = said.split("; ")
        assert name.startswith(f"mine={WRITTEN_TEXT}.")
        assert {a for a in attributes if not a.startswith("Expires=")} == {
            *("HttpOnly", "Max-Age=3", "Path=/", "SameSite=Lax"),
        }

    @pytest.mark.parametrize(
        ("secure", "scheme", "is_secure"),
        [
            (None, "https", True),
            (None, "http", False),
            (True, "http", True),
            (False, "https", False),
        ],
    )
    def test_it_is_secure_where_the_request_was_unless_told(
        self,
        pool: ScriptedStandbys,
        scheme: str,
        *,
        secure: bool | None,
        is_secure: bool,
    ) -> None:
        """Behind a proxy the request may not tell."""
        marks = ReadYourWrites(SECRET, secure=secure)
        exchange = write(pool, marks, **{"wsgi.url_scheme": scheme})
        assert ("; Secure" in cookies(exchange)[0]) == is_secure

    @pytest.mark.parametrize("seconds", [-15, 0, 15])
    def test_it_is_believed_for_its_age(
        self, pool: ScriptedStandbys, clock: Clock, seconds: float
    ) -> None:
        """Also by a machine whose clock is behind that of the one that made it."""
        marks = ReadYourWrites(SECRET, clock=clock)
        brought = cookie(write(pool, marks))
        clock.now += seconds
        assert "after" in position_read(pool, marks, HTTP_COOKIE=brought)

    def test_what_others_put_beside_it_does_no_harm(
        self, pool: ScriptedStandbys
    ) -> None:
        """Cookies of the same domain need not be UTF-8, nor well-formed."""
        marks = ReadYourWrites(SECRET)
        brought = cookie(write(pool, marks))
        jar = f"\xe9t\xe9=\xff; =; ;;\x00; {brought}; \xfe"
        assert "after" in position_read(pool, marks, HTTP_COOKIE=jar)

    @pytest.mark.parametrize("seconds", [-17, 17])
    def test_an_expired_one_is_ignored(
        self, pool: ScriptedStandbys, clock: Clock, seconds: float
    ) -> None:
        """Whoever keeps it longer than asked gains nothing."""
        marks = ReadYourWrites(SECRET, clock=clock)
        brought = cookie(write(pool, marks))
        clock.now += seconds
        read = position_read(pool, marks, HTTP_COOKIE=brought)
        assert read == "acquire to read"

    @pytest.mark.parametrize(
        "forge",
        [
            lambda good: good.replace("0/16", "0/17"),
            lambda good: good[:-1] + ("A" if good[-1] != "A" else "B"),
            lambda good: good.partition(".")[0],
            lambda _: "",
            lambda _: "0/FF",
            lambda _: "0/FF.a.b",
            lambda _: "...",
            lambda _: "\xff\xfe\x00\udcff",
            lambda _: '"\\777\\',
            lambda _: TimestampSigner(SECRET).sign("0/FF").decode(),
            lambda _: TimestampSigner("other").sign("0/FF").decode(),
        ],
    )
    def test_a_forged_one_is_ignored(
        self, pool: ScriptedStandbys, clock: Clock, forge: Callable[[str], str]
    ) -> None:
        """Changed, cut, made up, or signed with the same secret for something else."""
        marks = ReadYourWrites(SECRET, clock=clock)
        name, _, good = cookie(write(pool, marks)).partition("=")
        read = position_read(pool, marks, HTTP_COOKIE=f"{name}={forge(good)}")
        assert read == "acquire to read"

    def test_one_of_another_name_is_another(
        self, pool: ScriptedStandbys, clock: Clock
    ) -> None:
        """Middlewares of a stack do not take each other's."""
        mine, other = (
            ReadYourWrites(SECRET, cookie=name, clock=clock) for name in ("a", "b")
        )
        value = cookie(write(pool, mine)).partition("=")[2]
        read = position_read(pool, other, HTTP_COOKIE=f"b={value}")
        assert read == "acquire to read"

    def test_the_secret_can_be_rotated(
        self, pool: ScriptedStandbys, clock: Clock
    ) -> None:
        """The last key signs, each one is believed."""
        old = ReadYourWrites("old", clock=clock)
        both = ReadYourWrites(["old", "new"], clock=clock)
        new = ReadYourWrites(("new",), clock=clock)
        for maker, reader, is_believed in [
            (old, both, True),
            (both, new, True),
            (both, old, False),
            (old, new, False),
        ]:
            brought = cookie(write(pool, maker))
            read = position_read(pool, reader, HTTP_COOKIE=brought)
            assert ("after" in read) == is_believed

    def test_a_browser_can_read_it_back(self, pool: ScriptedStandbys) -> None:
        """Nothing in it needs quoting."""
        said = cookie(write(pool, ReadYourWrites(SECRET)))
        assert said == "=".join(next(parse_cookie(said).items()))


class TestHeader:
    """It is checked and not signed; what is no position is ignored."""

    def test_alone_it_needs_no_secret(self, pool: ScriptedStandbys) -> None:
        """And sets no cookie."""
        marks = ReadYourWrites(cookie=None, header=HEADER)
        exchange = write(pool, marks)
        assert (told(exchange), cookies(exchange)) == (WRITTEN_TEXT, [])

    @pytest.mark.parametrize(
        "value",
        [
            *("", " ", "0", "/", "0/", "/0", "0/0", "0/0 ", "-1/0", "0/G", "1/2/3"),
            *("123456789/0", "0/123456789", "0/\u0661", "\xff\xfe", "0/FF\n", "None"),
        ],
    )
    def test_a_wrong_value_is_ignored(self, pool: ScriptedStandbys, value: str) -> None:
        """It is never an error."""
        marks = ReadYourWrites(cookie=None, header=HEADER)
        read = position_read(pool, marks, **{COMES_AS: value})
        assert read == "acquire to read"

    def test_nobody_is_believed_who_was_not_asked(self, pool: ScriptedStandbys) -> None:
        """Without a header's name no header is read."""
        marks = ReadYourWrites(SECRET)
        read = position_read(pool, marks, **{COMES_AS: "0/FF", "HTTP_": "0/FF"})
        assert read == "acquire to read"


class TestSettings:
    """A wrong setting is an error that names it, and never tells the secret."""

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("secret_key", {"secret_key": None}),
            ("secret_key", {"secret_key": ""}),
            ("secret_key", {"secret_key": []}),
            ("secret_key", {"secret_key": [SECRET, ""]}),
            ("secret_key", {"secret_key": [SECRET, 7]}),
            ("secret_key", {"secret_key": SECRET.encode()}),
            ("secret_key", {"cookie": None, "header": HEADER}),
            ("cookie", {"cookie": None}),
            ("cookie", {"cookie": "a b"}),
            ("cookie", {"cookie": ""}),
            ("cookie", {"cookie": b"a"}),
            ("header", {"header": "X_Written"}),
            ("header", {"header": "X-Written:"}),
            ("header", {"header": 7}),
            ("max_age", {"max_age": 0}),
            ("max_age", {"max_age": float("inf")}),
            ("max_age", {"max_age": float("nan")}),
            ("max_age", {"max_age": "15"}),
            ("max_age", {"max_age": True}),
            ("secure", {"secure": 1}),
        ],
    )
    def test_a_wrong_one_is_named(self, name: str, settings: dict[str, Any]) -> None:
        """SettingsError begins with its name."""
        given: dict[str, Any] = {"secret_key": SECRET, **settings}
        with pytest.raises(SettingsError, match=rf"^{name}:") as caught:
            ReadYourWrites(**given)
        assert "horse" not in str(caught.value)

    def test_repr_tells_no_secret(self, pool: ScriptedStandbys) -> None:
        """Neither its own nor the middleware's."""
        marks = ReadYourWrites([SECRET], header=HEADER)
        assert "pgdbpool_written" in repr(marks)
        assert HEADER in repr(marks)
        middleware = serving(pool, marks, using())
        said = repr(marks) + repr(middleware) + repr(middleware._rules)
        assert "horse" not in said
        assert "horse" not in repr(vars(marks))

    def test_without_itsdangerous_it_says_what_to_install(self) -> None:
        """Where a cookie is asked for; a header needs nothing."""
        program = (
            "from pgdbpool.wsgi import ReadYourWrites\n"
            "print(ReadYourWrites(cookie=None, header='X-Written'))\n"
            "ReadYourWrites('secret')\n"
        )
        ended = run(program, without=["itsdangerous"])
        assert "header='X-Written'" in ended.stdout
        last = ended.stderr.splitlines()[-1]
        assert last.startswith("ImportError: ")
        assert "pip install 'pgdbpool[cookies]'" in last
