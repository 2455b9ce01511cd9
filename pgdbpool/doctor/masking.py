"""Masks what may be a secret in what libpq, a server or a provider says.

All of them repeat what they were given: the name of a database that does not exist, a
value that makes no sense. A URL in the wrong place, or one that is not percent-encoded,
has a password there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgdbpool.parameters import SECRET_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MASK: Final = "********"
# Shorter ones are masked as words only, or they would be so as parts of others.
SHORT: Final = 6
# To so many bytes PostgreSQL cuts a name (manual, "Identifiers and Key Words").
LONGEST_NAME: Final = 63
OF_A_DATABASE: Final = ("dbname", "PGDATABASE")
URL: Final = re.compile(r"(\bpostgres(?:ql)?://)[^\s\"]+")
CREDENTIALS: Final = re.compile(r"(://)[^\s\"]*@")
FIELDS: Final = re.compile(r"(?<!\\):")


def masked(text: str, params: Mapping[str, str], more: Iterable[str]) -> str:
    """Return a text without what may be a secret. Reads libpq's files.

    Args:
        text: what was said.
        params: of libpq, as the user gave them.
        more: other secrets.
    """
    known = {params.get(key, "") for key in SECRET_KEYS}
    known |= {os.environ.get("PGPASSWORD", ""), *more, *_of_files(params)}
    return _without_urls(_without({*known, *_torn(params)}, text))


def masked_name(name: str, params: Mapping[str, str]) -> str:
    """Return an endpoint's name without what may be a secret."""
    return _without_urls(_without(set(_torn(params)), name))


def _without(secrets: set[str], text: str) -> str:
    cut = {one.encode()[:LONGEST_NAME].decode(errors="ignore") for one in secrets}
    # The longest first: another may be a part of it.
    for secret in sorted({*secrets, *cut} - {""}, key=len, reverse=True):
        if len(secret) >= SHORT:
            text = text.replace(secret, MASK)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    return text


def _without_urls(text: str) -> str:
    return CREDENTIALS.sub(rf"\1{MASK}@", URL.sub(rf"\1{MASK}", text))


def _torn(params: Mapping[str, str]) -> Iterator[str]:
    """Yield the values that look like a part of a URL with a password."""
    environ = {key: text for key, text in os.environ.items() if key.startswith("PG")}
    for key, value in (*environ.items(), *params.items()):
        if "://" in value or (key in OF_A_DATABASE and "@" in value):
            yield value


def _of_files(params: Mapping[str, str]) -> Iterator[str]:
    """Yield all passwords of libpq's password file and service file."""
    given = params.get("passfile") or os.environ.get("PGPASSFILE") or "~/.pgpass"
    for line in _lines(given):
        password = ":".join(FIELDS.split(line)[4:])
        yield re.sub(r"\\(.)", r"\1", password)
    given = (
        params.get("servicefile")
        or os.environ.get("PGSERVICEFILE")
        or "~/.pg_service.conf"
    )
    for line in _lines(given):
        key, _, value = line.partition("=")
        if key.strip() in SECRET_KEYS:
            yield value.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).expanduser().read_text(errors="replace").splitlines()
    except (OSError, RuntimeError):  # there is none, nor a home
        return []
