"""A FalconAS application: one interpreter a process, one request at a time.

FalconAS imports this module, makes one `WebApp` and calls `invoke` for each request,
with the body of the request. The answer must be a string of at most 8,192 bytes in
UTF-8 and without a NUL; what raises would become an empty body with status 200.
The pool is told where the database is by `PGDBPOOL_CONNINFO` or `DATABASE_URL`.
"""

import json
import logging

import psycopg2

from pgdbpool import ConnectionPool, PoolError

LONGEST = 8192

logger = logging.getLogger(__name__)


class WebApp:
    """What FalconAS makes once in each of its processes."""

    def __init__(self) -> None:
        # Nothing is opened before the first request. There is one thread, and the
        # interpreter is held between requests, so the pool must do without threads.
        self.pool = ConnectionPool.from_env(threaded=False, max_size=1)

    def invoke(self, payload: str) -> str:
        """Answer one request."""
        try:
            answer = self.answer(json.loads(payload)["payload"])
        except PoolError as error:
            logger.warning("no connection: %s", error)
            answer = {"error": "try again"}
        except psycopg2.Error:
            logger.exception("the database refused")
            answer = {"error": "the database refused"}
        except (KeyError, TypeError, ValueError):
            answer = {"error": 'send {"payload": {"note": "…"}}'}
        text = json.dumps(answer)
        return text if len(text) <= LONGEST else json.dumps({"error": "too long"})

    def answer(self, request: dict[str, str]) -> dict[str, object]:
        """Write a note, and tell how many there are."""
        with self.pool.connection() as conn, conn.cursor() as cur:
            cur.execute("INSERT INTO notes (note) VALUES (%s)", (request["note"],))
            cur.execute("SELECT count(*) FROM notes")
            (count,) = cur.fetchone()
        return {"count": count}
