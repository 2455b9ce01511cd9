"""Hooks of gunicorn: warm pools of the right size, and nothing left behind.

In ``gunicorn.conf.py``::

    from pgdbpool.gunicorn import *

or, where hooks of your own stand there already, call ours from them:
`pgdbpool.gunicorn.hooks` says what each does.
"""

from pgdbpool.gunicorn.hooks import (
    child_exit,
    nworkers_changed,
    on_exit,
    on_starting,
    post_fork,
    post_worker_init,
    pre_fork,
    when_ready,
    worker_exit,
)

__all__ = [
    "child_exit",
    "nworkers_changed",
    "on_exit",
    "on_starting",
    "post_fork",
    "post_worker_init",
    "pre_fork",
    "when_ready",
    "worker_exit",
]
