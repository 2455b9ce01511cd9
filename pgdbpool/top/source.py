"""Fetches what the status page shows, as JSON."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

# Longer than a page takes that waits for a worker which does not answer.
TIMEOUT: Final = 5.0
# What is looked at: the last minute.
SECONDS: Final = 60


class SourceError(Exception):
    """There is nothing to show.

    Attributes:
        may_pass: whether it is worth trying again.
    """

    def __init__(self, text: str, *, may_pass: bool) -> None:
        super().__init__(text)
        self.may_pass = may_pass


class Source:
    """A status page.

    Args:
        url: its address.
        token: what opens it; None: nothing has to.

    Raises:
        SourceError: the address is none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SourceError(
                f"{url!r} is no address of a page: give http://host:port/path/",
                may_pass=False,
            )
        self.url = urljoin(
            url if parts.path.endswith("/") else f"{url}/", "status.json"
        )
        self._headers = {"Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def look(self, now: float) -> dict[str, Any]:
        """Return how the service is doing. Blocks for some seconds at most.

        Args:
            now: seconds since 1970.

        Raises:
            SourceError: the page does not answer, or not with that.
        """
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
            f"{self.url}?since={int(now) - SECONDS}", headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                state = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise SourceError(f"{self.url}: {reason}", may_pass=True) from None
        except ValueError:
            state = None
        if not isinstance(state, dict) or "workers" not in state:
            raise SourceError(f"{self.url} is no status page", may_pass=False)
        return state

    def _refusal(self, status: int) -> SourceError:
        if status in (401, 403):
            return SourceError(
                f"{self.url} is closed to you ({status}): give its token with --token "
                "or PGDBPOOL_STATUS_TOKEN",
                may_pass=False,
            )
        if status == 404:  # noqa: PLR2004 - not found
            return SourceError(f"{self.url} is not there (404)", may_pass=False)
        return SourceError(f"{self.url} answers {status}", may_pass=True)
