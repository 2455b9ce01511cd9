"""The shop's gunicorn.conf.py: an ordinary one that takes pgdbpool's hooks."""

import os
import signal
from pathlib import Path

from pgdbpool.demo.parent import end_with_parent
from pgdbpool.gunicorn import metrics as hooks
from pgdbpool.gunicorn.metrics import *  # noqa: F403 (the hooks, as a user imports them)
from pgdbpool.gunicorn.server import Worker

wsgi_app = "pgdbpool.demo.app:make_application()"
bind = "fd://" + os.environ["PGDBPOOL_DEMO_LISTENER"]
workers = int(os.environ["PGDBPOOL_DEMO_WORKERS"])
threads = int(os.environ["PGDBPOOL_DEMO_THREADS"])
worker_class = "gthread"
# Longer than any client of the demo leaves a connection idle.
keepalive = 30
# Whoever ends the demo does not wait for the last slow query.
graceful_timeout = 1
# By default gunicorn leaves a socket in the user's home directory.
control_socket_disable = True

end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))


# It replaces the one just imported, and calls it.
def post_worker_init(worker: Worker) -> None:  # type: ignore[no-redef]
    """Tell the demo that one more worker is ready, after pgdbpool's own hook."""
    hooks.post_worker_init(worker)
    with Path(os.environ["PGDBPOOL_DEMO_READY"]).open("a") as ready:
        ready.write(".")
