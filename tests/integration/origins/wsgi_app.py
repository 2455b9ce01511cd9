"""1.x's WSGI application: a group in autocommit, rows by their position."""

import json
from collections.abc import Iterator
from typing import Any

from pgdbpool.compat import dbpool
from tests.integration.origins import dbconfig

dbpool.Connection.init(dbconfig.config)


def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401 - WSGI's
    """Show who is active; the answer begins before the query, as it stands there."""
    if environ["REQUEST_METHOD"].upper() != "GET":
        return
    try:
        kind = "application/json; charset=UTF-8"
        start_response("200 OK", [("Content-Type", kind)])
        found = []
        with dbpool.Handler("default") as db:
            for row in db.query(
                "SELECT id, name, email FROM users WHERE active = true"
            ):
                found.append({"id": row[0], "name": row[1], "email": row[2]})  # noqa: PERF401 - as it stands there
        yield json.dumps(found).encode("utf-8")
    except Exception:  # noqa: BLE001 - as it stands there
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        yield b"Internal Server Error"
