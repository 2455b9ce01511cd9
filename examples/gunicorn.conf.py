"""gunicorn's settings for each of the examples, from the top of the project.

    PGDBPOOL_CONNINFO=postgresql://app@localhost/shop \
        gunicorn -c examples/gunicorn.conf.py examples.plain_app:app

The hooks give each worker's pool its size (here: the threads), warm it, close it
in the end, and end on the server what a killed worker left running. With
PGDBPOOL_TOTAL=20 in the environment all workers together stay within 20.
"""

from pgdbpool.gunicorn import *  # noqa: F403 - hooks are found by their names

workers = 2
worker_class = "gthread"
threads = 4
