"""What the hooks use of gunicorn's objects, which gunicorn hands to them."""

from typing import Any, Protocol


class Log(Protocol):
    """gunicorn's error log."""

    def debug(self, msg: str, *args: object) -> None:
        """Log for developers."""

    def info(self, msg: str, *args: object) -> None:
        """Log the normal course of things."""

    def warning(self, msg: str, *args: object) -> None:
        """Log what an operator should look at."""

    def critical(self, msg: str, *args: object) -> None:
        """Log what ends the server."""

    def exception(self, msg: str, *args: object) -> None:
        """Log the exception being handled."""


class Config(Protocol):
    """gunicorn's settings."""

    workers: int
    threads: int
    worker_connections: int
    timeout: int
    uid: int
    gid: int


class Arbiter(Protocol):
    """The process that starts, watches and replaces the workers."""

    cfg: Config
    log: Log
    num_workers: int
    worker_class: type[Any]


class Worker(Protocol):
    """One worker; ``age`` counts the workers of an arbiter from 1."""

    age: int
    pid: int
    cfg: Config
    log: Log
