"""The singleton's manual: a function that reads, and an orderly end."""

from typing import Any

from pgdbpool.compat.singleton import PostgresqlConnection

db = PostgresqlConnection()


def read_users() -> list[tuple[Any, ...]]:
    """Return some users."""
    with db as conn, conn.cursor() as cur:
        cur.execute("SELECT * FROM users ORDER BY 1 LIMIT 5;")
        return list(cur.fetchall())


if __name__ == "__main__":
    try:
        print(read_users())  # noqa: T201 - as it stands there
    except Exception as error:  # noqa: BLE001 - as the manual has it
        print(f"Error: {error}")  # noqa: T201 - as it stands there
    PostgresqlConnection.close_all()
