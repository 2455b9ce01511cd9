"""Workers that ask each other, some of which do not answer."""

import errno
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from pgdbpool import peers
from pgdbpool.endpoint import identity
from tests.unit.test_import import run


class Page:
    """What answers for this process, if a question is for it."""

    def __init__(self, name: str = "page") -> None:
        self.name = name

    def answer(self, question: dict[str, Any]) -> object:
        """Return what was asked."""
        mine = question.get("of", "page") == self.name
        return {"asked": question.get("since"), "by": self.name} if mine else None


@pytest.fixture
def page() -> Page:
    """Give what answers for this process."""
    return Page()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the directory where the workers of a test meet; none is there yet."""
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        place = Path(parent, "meeting")
        monkeypatch.setattr(peers, "_directory", place)
        monkeypatch.setattr(peers, "_answers", {})
        monkeypatch.setattr(identity, "_token", "abc.7")
        yield place
        peers.leave()


@pytest.fixture
def others(place: Path, page: Page) -> Iterator[ExitStack]:
    """Give a place for the sockets of other workers."""
    peers.answer_with(page.answer)
    peers.join()
    assert place.stat().st_mode & 0o777 == 0o700
    with ExitStack() as stack:
        yield stack


def listener(place: Path, stack: ExitStack, name: str) -> socket.socket:
    """Return the socket of another worker."""
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(str(place / name))
    sock.listen()
    return sock


def asked(since: int, of: str = "page") -> bytes:
    """Return a question."""
    question = {"protocol": peers.PROTOCOL, "since": since, "of": of}
    return json.dumps(question).encode() + b"\n"


def told(since: int, by: str = "page") -> bytes:
    """Return its answer."""
    answer = {"asked": since, "by": by}
    return json.dumps({"protocol": peers.PROTOCOL, "answer": answer}).encode()


@contextmanager
def answering(sock: socket.socket, content: bytes) -> Iterator[None]:
    """Have another worker answer one question so."""

    def answer() -> None:
        caller, _ = sock.accept()
        with caller:
            caller.recv(4096)
            caller.sendall(content)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join()


def call(place: Path, question: bytes) -> bytes:
    """Return what this process answers another."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5.0)
        sock.connect(str(place / peers.my_name()))
        sock.sendall(question)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer


@pytest.mark.usefixtures("others")
def test_a_worker_answers_what_it_is_asked(place: Path) -> None:
    """One question after the other; itself it does not ask."""
    assert peers.my_name() == f"7.{os.getpid()}"
    assert call(place, asked(5)) == told(5)
    assert call(place, asked(6)) == told(6)
    assert peers.ask({}, 0.3) == []


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    "question",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b"{}\n",
        b"x" * 5000 + b"\n",
        b"\xff\n",
        b'{"protocol": 1, "since": 5}\n',
    ],
)
def test_nonsense_gets_no_answer_and_the_next_one_does(
    place: Path, question: bytes
) -> None:
    """The worker goes on."""
    with suppress(ConnectionResetError):  # it need not read all of it
        assert call(place, question) == b""
    assert call(place, asked(5)) == told(5)


def test_a_worker_that_does_not_answer_is_named(place: Path, others: ExitStack) -> None:
    """In time, whatever it is that it does not do."""
    listener(place, others, "1.100")
    began = time.monotonic()
    assert peers.ask({}, 0.1) == [peers.Reply("1.100")]
    assert time.monotonic() - began < 5.0


def test_a_worker_that_has_ended_is_left_out(place: Path, others: ExitStack) -> None:
    """Though its file is there still."""
    listener(place, others, "1.100").close()
    assert (place / "1.100").exists()
    assert peers.ask({}, 5.0) == []


def test_an_answer_that_was_cut_off_is_none(place: Path, others: ExitStack) -> None:
    """It is not taken for a short one."""
    sock = listener(place, others, "1.100")
    for content in (told(5)[:-1], b""):
        with answering(sock, content):
            (reply,) = peers.ask({}, 5.0)
        assert (reply.name, reply.content) == ("1.100", None)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b'"x"',
        b"5",
        b"null",
        b"{}",
        b'{"protocol": 1, "answer": {}}',
        b"[" * 9999,
    ],
)
def test_an_answer_of_another_version_is_none(
    place: Path, others: ExitStack, content: bytes
) -> None:
    """Nobody knows what it means; while a service is reloaded they meet."""
    with answering(listener(place, others, "1.100"), content):
        assert peers.ask({}, 5.0) == [peers.Reply("1.100", None, received=ANY)]


def test_a_file_that_is_no_worker_is_left_out(place: Path, others: ExitStack) -> None:
    """Such as those of NFS; it does not keep the others from being asked."""
    for name in (".nfs0001", "1", "1.2.3", "x.1", "\u0663.1", "1.", "1.101"):
        (place / name).write_text("")
    with answering(listener(place, others, "1.100"), told(5)):
        (reply,) = peers.ask({}, 5.0)
    assert reply.content == {"asked": 5, "by": "page"}


@pytest.mark.usefixtures("others")
def test_each_answers_what_it_is_meant_by(place: Path) -> None:
    """In the order in which they came, those that are gone no more."""
    pages = [Page("one"), Page("two")]
    for page in pages:
        peers.answer_with(page.answer)
    assert call(place, asked(5, "one")) == told(5, "one")
    assert call(place, asked(5, "two")) == told(5, "two")
    del page
    pages.pop()
    assert call(place, asked(5, "one")) == told(5, "one")
    nothing = json.dumps({"protocol": peers.PROTOCOL, "answer": None}).encode()
    assert call(place, asked(5, "two")) == nothing


def test_who_has_no_such_page_is_left_out(place: Path, others: ExitStack) -> None:
    """It is neither silent nor has it anything to show."""
    nothing = json.dumps({"protocol": peers.PROTOCOL, "answer": None}).encode()
    with answering(listener(place, others, "1.100"), nothing):
        assert peers.ask({}, 5.0) == []


def test_without_a_place_for_files_a_worker_is_alone(
    page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It serves, and says why the others do not find it."""

    def fail() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", fail)
    monkeypatch.setattr(peers, "_directory", None)
    monkeypatch.setattr(peers, "_answers", {})
    monkeypatch.setattr(identity, "_token", "abc.7")
    peers.answer_with(page.answer)
    peers.join()
    assert peers.ask({}, 5.0) == []
    peers.forget("1.100")
    peers.leave()
    peers.remove()
    assert "other workers cannot ask this one" in caplog.text
    assert "No usable temporary directory" in caplog.text


def test_no_place_for_files_is_needed_to_import_it() -> None:
    """`gunicorn.conf.py` imports it, and without the status page needs none."""
    program = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']; "
        "import pgdbpool.peers"
    )
    assert run(program, without=()).stderr == ""


def test_the_last_one_takes_the_directory_along(place: Path, others: ExitStack) -> None:
    """And nothing is left of one that was killed."""
    listener(place, others, "1.100")
    peers.leave()
    assert [path.name for path in place.iterdir()] == ["1.100"]
    peers.forget("1.100")
    assert not place.exists()
    peers.forget("1.100")
    peers.leave()


def test_a_directory_of_somebody_else_is_not_used(
    place: Path, page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor one that others can enter; the worker goes on alone."""
    place.mkdir(mode=0o755)
    peers.answer_with(page.answer)
    peers.join()
    assert list(place.iterdir()) == []
    assert "other workers cannot ask this one" in caplog.text
    assert peers.ask({}, 5.0) == []


def test_nothing_is_made_where_nothing_answers(place: Path, page: Page) -> None:
    """Or where the process is no worker."""
    peers.join()
    assert not place.exists()
    peers.leave()
    peers.answer_with(page.answer)
    assert not place.exists()


def test_what_answers_later_is_asked_later(place: Path, page: Page) -> None:
    """A page that is made at the first request."""
    peers.join()
    peers.answer_with(page.answer)
    assert call(place, asked(5)) == told(5)


def test_a_page_that_is_gone_answers_no_more(place: Path) -> None:
    """Nobody has to close it, and the worker is asked no more."""
    page = Page()
    peers.answer_with(page.answer)
    peers.join()
    del page
    nothing = json.dumps({"protocol": peers.PROTOCOL, "answer": None}).encode()
    assert call(place, asked(5)) == nothing
