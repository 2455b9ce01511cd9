"""Fetches what the status page shows, as JSON."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any, Final

from pgdbpool.top.address import AddressError, address_of, opener_for, page_of
from pgdbpool.top.figures import Figures, figures_of
from pgdbpool.top.past import Past
from pgdbpool.top.texts import printable

# Longer than a page takes that waits for a worker which does not answer.
TIMEOUT: Final = 5.0
# No service has so much to tell, bytes.
MOST: Final = 64 * 1024 * 1024


class SourceError(Exception):
    """There is nothing to show.

    Attributes:
        may_pass: whether it is worth trying again.
    """

    def __init__(self, text: str, *, may_pass: bool) -> None:
        super().__init__(printable(text))
        self.may_pass = may_pass


class Source:
    """A status page.

    Args:
        url: its address.
        token: what opens it; None: nothing has to.

    Raises:
        SourceError: the address is none, or the token.
    """

    def __init__(self, url: str, token: str | None) -> None:
        try:
            self.url = address_of(url)
        except AddressError as error:
            raise SourceError(str(error), may_pass=False) from None
        self._headers = {"Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {_in_header(token)}"
        self._opener = opener_for(self.url)
        self._past = Past()
        self._is_known = False

    def look(self) -> Figures:
        """Return how the service is doing. Blocks for some seconds at most.

        Raises:
            SourceError: the page does not answer, or not with that.
        """
        state = self._fetch()
        if not isinstance(state, dict) or "workers" not in state:
            raise SourceError(f"{self.url} is no status page", may_pass=False)
        try:
            figures = figures_of(state, self._past)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise SourceError(
                f"{self.url} is the status page of another version, which has "
                "something else to show; run the pgdbpool top of that version",
                may_pass=False,
            ) from None
        self._is_known = True
        return figures

    def _fetch(self) -> Any:  # noqa: ANN401 - as JSON
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
            f"{self.url}?since={self._past.since}", headers=self._headers
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.loads(_body_of(answer))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except http.client.IncompleteRead:
            raise SourceError(
                f"{self.url}: its answer was cut off", may_pass=True
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise SourceError(f"{self.url}: {reason}", may_pass=True) from None
        except (ValueError, RecursionError):
            # Where a page was before, its service may have been cut off in the middle
            # of an answer that tells no length, or what stands in front may say that
            # it is away.
            raise SourceError(
                f"{self.url} is no status page", may_pass=self._is_known
            ) from None

    def _refusal(self, error: urllib.error.HTTPError) -> SourceError:
        status = error.code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return SourceError(
                f"{self.url} is closed to you ({status}): give its token with --token "
                "or PGDBPOOL_STATUS_TOKEN",
                may_pass=False,
            )
        location = error.headers.get("Location")
        if location and HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            page = page_of(location, self.url)
            return SourceError(
                f"{self.url} redirects to {page}: give that address, if it is right",
                may_pass=False,
            )
        if status == HTTPStatus.NOT_FOUND:
            return SourceError(f"{self.url} is not there (404)", may_pass=False)
        return SourceError(f"{self.url} answers {status}", may_pass=True)


def _body_of(answer: http.client.HTTPResponse) -> bytes:
    """Return what an answer says; what is too long is not read to the end.

    Raises:
        IncompleteRead: it was cut off. `read` with a limit notices that in chunks only.
    """
    body = answer.read(MOST)
    if answer.length and len(body) < MOST:
        raise http.client.IncompleteRead(body, answer.length)
    return body


def _in_header(token: str) -> str:
    """Return a token as a header carries it: the bytes of its UTF-8.

    Raises:
        SourceError: no header can.
    """
    token = token.strip()
    if not token or not token.isprintable():
        raise SourceError(
            "the token is empty, or has the end of a line or another character in it "
            "that cannot be printed",
            may_pass=False,
        )
    return token.encode().decode("latin-1")
