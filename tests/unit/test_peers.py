"""Workers that ask each other, some of which do not answer."""

import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from pgdbpool import peers
from pgdbpool.endpoint import identity


class Page:
    """What answers for this process."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def answer(self, question: dict[str, Any]) -> object:
        """Return the question."""
        self.heard.append(question)
        return {"asked": question}


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
        monkeypatch.setattr(peers, "_answer", None)
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
    assert call(place, b'{"since": 5}\n') == b'{"asked": {"since": 5}}'
    assert call(place, b'{"since": 6}\n') == b'{"asked": {"since": 6}}'
    assert peers.ask({}, 0.3) == []


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("question", [b"\n", b"{\n", b"x" * 5000 + b"\n", b"\xff\n"])
def test_nonsense_gets_no_answer_and_the_next_one_does(
    place: Path, question: bytes
) -> None:
    """The worker goes on."""
    with suppress(ConnectionResetError):  # it need not read all of it
        assert call(place, question) == b""
    assert call(place, b"{}\n")


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

    def answer(content: bytes) -> None:
        caller, _ = sock.accept()
        with caller:
            caller.recv(4096)
            caller.sendall(content)

    for content in (b'{"cut": ', b""):
        thread = threading.Thread(target=answer, args=(content,))
        thread.start()
        (reply,) = peers.ask({}, 5.0)
        thread.join()
        assert (reply.name, reply.content) == ("1.100", None)


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
    assert call(place, b"{}\n") == b'{"asked": {}}'


def test_a_page_that_is_gone_answers_no_more(place: Path) -> None:
    """Nobody has to close it."""
    page = Page()
    peers.answer_with(page.answer)
    peers.join()
    del page
    assert call(place, b"{}\n") == b""
