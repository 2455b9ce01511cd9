"""The environment, with a ``.env`` file below it. Neither is ever changed."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pgdbpool.errors import SettingsError

# What the argument ``dotenv`` may be.
Dotenv = bool | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Variables:
    """What is set, where; an empty variable hides the file's and counts as not set."""

    environ: Mapping[str, str] = dataclasses.field(repr=False)
    file: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    path: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str], dotenv: Dotenv) -> Variables:
        """Read the file, if one is asked for and found.

        Raises:
            SettingsError: it is not readable.
            ImportError: python-dotenv is missing.
        """
        path = _path_of(dotenv)
        return cls(environ, _values_of(path), path) if path else cls(environ)

    def names(self) -> list[str]:
        """Return all names there are, empty variables' too."""
        return sorted({*self.environ, *self.file})

    def text(self, name: str) -> str:
        """Return what a variable is set to, "" where it is not."""
        return self.environ.get(name, self.file.get(name, ""))

    def where(self, name: str) -> str:
        """Return a variable's name, with the file if it is from there."""
        return f"{name} in {self.path}" if self.is_from_file(name) else name

    def is_from_file(self, name: str) -> bool:
        """Whether only the file has it."""
        return name in self.file and name not in self.environ

    def those_set(self, names: Collection[str]) -> list[str]:
        """Return those of the names that are set."""
        return [name for name in names if self.text(name).strip()]


def _path_of(dotenv: Dotenv) -> str:
    """Return which file to read, "" for none."""
    if dotenv is True:
        found: str = _library().find_dotenv(usecwd=True)
        return found
    return "" if dotenv is False else os.fspath(dotenv)


def _values_of(path: str) -> dict[str, str]:
    library: Any = _library()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"dotenv: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"dotenv: {path} is not a text in UTF-8") from None
    values = library.dotenv_values(stream=io.StringIO(text))
    return {name: value or "" for name, value in values.items()}


def _library() -> ModuleType:
    try:
        import dotenv  # noqa: PLC0415 - may be missing
    except ImportError:
        raise ImportError(
            "dotenv= needs python-dotenv: pip install 'pgdbpool[dotenv]'"
        ) from None
    return dotenv
