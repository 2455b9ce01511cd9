"""Where each setting of a pool comes from.

For each setting the first counts that has it: an argument, the setting's own variable
(``PGDBPOOL_MAX_SIZE``), ``DATABASE_URL``, the ``DB_*`` names. The first that says where
the database is rules out ``DATABASE_URL`` and the ``DB_*`` names below it. What none of
them says is libpq's business: its ``PG*`` variables, pgpass and service files are
neither read nor changed here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from psycopg2 import extensions as driver

from pgdbpool.environment.forms import (
    BOOLEAN,
    FORMS,
    SECRET,
    UNWRITABLE,
    WHOLE,
    read,
    split_urls,
)
from pgdbpool.environment.variables import Dotenv, Variables
from pgdbpool.errors import SettingsError
from pgdbpool.parameters import SCHEMES, libpq_params
from pgdbpool.settings import Settings, SettingsDict

PREFIX: Final = "PGDBPOOL_"
URL: Final = "DATABASE_URL"
REQUIRED: Final = ("DB_HOST", "DB_USER", "DB_NAME")
# These say that the singleton's names are meant for a pool. The others have more
# meanings: Kubernetes sets DB_PORT for any service that is called "db".
TELLING: Final = (*REQUIRED, "DB_PASSWORD", "DB_MIN_CONN", "DB_MAX_CONN")
SINGLETON: Final = (*TELLING, "DB_PORT", "IDENTITY_ENABLED")
SINGLETONS_SIZES: Final = {"min_size": "DB_MIN_CONN", "max_size": "DB_MAX_CONN"}
# Not of a pool, but of what is around it: gunicorn's hooks, the demo, our own tests.
TOTAL: Final = "PGDBPOOL_TOTAL"
OTHERS: Final = ("PGDBPOOL_DEMO_", "PGDBPOOL_STATUS_", "PGDBPOOL_TEST_")
# What a setting is called elsewhere, too far from our name for difflib.
SYNONYMS: Final = {
    "DSN": "conninfo",
    "URL": "conninfo",
    "URI": "conninfo",
    "DATABASE_URL": "conninfo",
    "MIN_CONN": "min_size",
    "MAX_CONN": "max_size",
    "POOL_SIZE": "max_size",
}
# The settings that say where the database is.
PLACE: Final = ("conninfo", "endpoints")
OUTLINE: Final = (*PLACE, "password", "min_size", "max_size")
ARGUMENT: Final = "an argument"

_log = logging.getLogger(__name__)


class Given(SettingsDict, total=False):
    """The keyword arguments of `ConnectionPool.from_env`, which go before all else."""

    conninfo: str | Sequence[str]


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found for one pool.

    Attributes:
        values: the arguments of a pool, ``conninfo`` among them.
        origins: where each of them came from, by the same names.
        warnings: what is set and does not count; names, never a value.
    """

    values: Mapping[str, Any] = dataclasses.field(repr=False)
    origins: Mapping[str, str]
    warnings: Sequence[str]

    def warn(self) -> None:
        """Tell the log what is set and does not count."""
        for warning in self.warnings:
            _log.warning("%s", warning)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Have a `SettingsError` of the block name the variables, not the settings."""
        try:
            yield
        except SettingsError as error:
            raise SettingsError(self._explain(str(error))) from error.__cause__

    def _explain(self, message: str) -> str:
        named = {n: o for n, o in self.origins.items() if o != ARGUMENT}
        subject, colon, rest = message.partition(":")
        others = [
            f"{name} is from {origin}"
            for name, origin in named.items()
            if name != subject and re.search(rf"\b{name}\b", rest)
        ]
        also = f" ({', '.join(others)})" if others else ""
        return f"{named.get(subject, subject)}{colon}{rest}{also}"

    def settings(self) -> Settings:
        """Return the checked settings.

        Raises:
            SettingsError: something is wrong; it names the variable.
        """
        given = {name: v for name, v in self.values.items() if name != "conninfo"}
        with self.explained():
            return Settings.of(self.values.get("conninfo", ""), given)


def find(
    prefix: str = PREFIX,
    given: Mapping[str, Any] | None = None,
    *,
    dotenv: Dotenv = False,
    environ: Mapping[str, str] | None = None,
) -> Found:
    """Return what the environment has for a pool, after what is given.

    Reads a file if asked to, and imports what a variable names as ``module:function``.
    Changes nothing, least of all ``os.environ``.

    Args:
        prefix: of the variables that are the pool's own.
        given: arguments, which go before all else.
        dotenv: the path of a ``.env`` file, or True for the nearest one from the
            working directory upwards, if there is any. The environment goes before it.
        environ: in place of ``os.environ``.

    Raises:
        SettingsError: a variable with this prefix is unknown, a text is not what its
            setting can be, required names are missing, or the file is not readable.
        ImportError: ``dotenv`` is asked for and python-dotenv is missing.
    """
    if not prefix:
        raise SettingsError("prefix: must not be empty")
    variables = Variables.of(os.environ if environ is None else environ, dotenv)
    _refuse_unknown(prefix, variables)
    finding = _Finding(variables, given or {})
    finding.add_own(prefix, FORMS)
    finding.add_url()
    finding.add_singleton()
    finding.warn_of_unseen(prefix)
    return Found(finding.values, finding.origins, finding.warnings)


def find_outline(environ: Mapping[str, str]) -> Found:
    """Return only where the database is, the password, and how many are wanted.

    For who does not know whether there will be such a pool: looks only at names that
    are of no other database, imports nothing, and minds no unknown variable.

    Raises:
        SettingsError: a variable is not what its setting can be.
    """
    finding = _Finding(Variables(environ), {})
    finding.add_own(PREFIX, OUTLINE)
    if environ.get(URL, "").startswith(SCHEMES):
        finding.add_url()
    return Found(finding.values, finding.origins, finding.warnings)


def variable_of(setting: str, prefix: str = PREFIX) -> str:
    """Return the one variable that a setting has."""
    return f"{prefix}{setting.upper()}"


def azure_identity() -> object:
    """Return what fetches passwords where ``IDENTITY_ENABLED`` says so.

    Raises:
        ImportError: its library is missing.
    """
    from pgdbpool.auth.azure import AzureIdentity  # noqa: PLC0415 - may be missing

    return AzureIdentity()


def _refuse_unknown(prefix: str, variables: Variables) -> None:
    """Raise SettingsError that names all variables which are nobody's."""
    known = {variable_of(setting, prefix) for setting in FORMS}
    allowed = {*known, *SINGLETON, URL, TOTAL}
    problems = [
        f"{variables.where(name)}: {_hint(name[len(prefix) :], prefix)}"
        for name in variables.names()
        if name.startswith(prefix)
        and not name.startswith(OTHERS)
        and name not in allowed
    ]
    if problems:
        raise SettingsError("; ".join(problems))


def _hint(rest: str, prefix: str) -> str:
    """Return what is wrong with a name, and which was meant. Never its value."""
    reason = UNWRITABLE.get(rest.lower())
    if reason is not None:
        return f"this setting has no variable; {reason}"
    wanted = SYNONYMS.get(rest.upper(), rest).lower()
    names = [*FORMS, "total"] if prefix == PREFIX else FORMS
    (nearest,) = difflib.get_close_matches(wanted, names, n=1, cutoff=0.0)
    return f"unknown variable; did you mean {variable_of(nearest, prefix)}?"


class _Finding:
    """Takes what each source has; the one that is asked first goes before the next."""

    def __init__(self, variables: Variables, given: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = dict(given)
        self.origins = dict.fromkeys(given, ARGUMENT)
        self.warnings: list[str] = []
        self._variables = variables

    def add_own(self, prefix: str, settings: Iterable[str]) -> None:
        """Take what the variables of these settings say."""
        for setting in settings:
            form, variable = FORMS[setting], variable_of(setting, prefix)
            text = self._variables.text(variable)
            text = text if form is SECRET else text.strip()
            if text and self._is_free(setting, variable):
                where = self._variables.where(variable)
                value = read(form, text, where)
                if setting in PLACE:
                    _check_place(text, where)
                self._take(setting, value, where)

    def add_url(self) -> None:
        """Take ``DATABASE_URL``, unless something before it says a place."""
        url = self._variables.text(URL).strip()
        if not url:
            return
        where = self._variables.where(URL)
        if self._place_is_from is not None:
            if url.startswith(SCHEMES):  # else it is not meant for us
                self._warn_of_place([URL])
            return
        if not url.startswith(SCHEMES):
            raise SettingsError(f"{where}: must begin with {' or '.join(SCHEMES)}")
        _check_place(url, where)
        self._take("conninfo", url, where)

    def add_singleton(self) -> None:
        """Take the singleton's names, unless something before them says a place."""
        names = self._variables.those_set(SINGLETON)
        if not self._variables.those_set(TELLING):
            return
        if self._place_is_from is not None:
            self._warn_of_place(names)
            return
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            places = ", ".join(map(self._variables.where, names))
            raise SettingsError(
                f"Variables are missing: {', '.join(missing)} (there is {places})"
            )
        self._add_singletons_place()
        for setting, variable in SINGLETONS_SIZES.items():
            if variable in names and self._is_free(setting, variable):
                self._take(setting, *self._whole(variable))

    def _add_singletons_place(self) -> None:
        variables = self._variables
        names = {"host": "DB_HOST", "user": "DB_USER", "dbname": "DB_NAME"}
        secret = "DB_PASSWORD"  # noqa: S105 - the name of a variable
        if self._has_identity():
            if variables.text(secret):
                self._warn_of([secret], "IDENTITY_ENABLED is on")
            if self._is_free("password", "IDENTITY_ENABLED"):
                where = variables.where("IDENTITY_ENABLED")
                self._take("password", azure_identity(), where)
        elif variables.text(secret) and self._is_free("password", secret):
            names["password"] = secret
        params: dict[str, Any] = {key: variables.text(n) for key, n in names.items()}
        if variables.those_set(["DB_PORT"]):
            params["port"], _ = self._whole("DB_PORT")
            names["port"] = "DB_PORT"
        dsn = driver.make_dsn(**{"port": 5432, **params})
        where = ", ".join(map(variables.where, names.values()))
        _check_place(dsn, where)
        self._take("conninfo", dsn, where)

    def _has_identity(self) -> bool:
        text = self._variables.text("IDENTITY_ENABLED").strip() or "off"
        where = self._variables.where("IDENTITY_ENABLED")
        return read(BOOLEAN, text, where) is True

    def _whole(self, variable: str) -> tuple[object, str]:
        where = self._variables.where(variable)
        return read(WHOLE, self._variables.text(variable).strip(), where), where

    def warn_of_unseen(self, prefix: str) -> None:
        """Warn of what a file says to libpq and others, who never look into it."""
        ours = (prefix, PREFIX)
        for name in self._variables.those_set(self._variables.names()):
            is_libpqs = name.startswith("PG") and not name.startswith(ours)
            is_others = is_libpqs or name == TOTAL or name.startswith(OTHERS)
            if is_others and self._variables.is_from_file(name):
                self._warn_of([name], "who reads it sees the environment only")

    @property
    def _place_is_from(self) -> str | None:
        return next((self.origins[n] for n in PLACE if n in self.origins), None)

    def _is_free(self, setting: str, variable: str) -> bool:
        """Whether nothing before this variable says the setting; warn if it does."""
        if setting not in self.origins:
            return True
        self._warn_of([variable], f"{setting} is from {self.origins[setting]}")
        return False

    def _warn_of_place(self, names: Sequence[str]) -> None:
        self._warn_of(names, f"the database is from {self._place_is_from}")

    def _warn_of(self, names: Sequence[str], why: str) -> None:
        where = ", ".join(map(self._variables.where, names))
        self.warnings.append(f"{where}: not used, {why}")

    def _take(self, setting: str, value: object, where: str) -> None:
        self.values[setting] = value
        self.origins[setting] = where


def _check_place(text: str, where: str) -> None:
    """Raise SettingsError that names the variable, unless libpq can parse its DSNs."""
    for dsn in split_urls(text):
        libpq_params(dsn, None, where)
