"""The singleton's own program: three attempts, between which a token may expire."""

from typing import Any

from pgdbpool.compat.singleton import PostgresqlConnection


def attempt(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return what a statement finds, by way of the one instance."""
    with PostgresqlConnection() as conn, conn.cursor() as cur:
        cur.execute(statement, parameters or None)
        return list(cur.fetchall())


def main() -> None:
    """Try three times; what fails is told, and the next attempt is made."""
    centre = "Colombia"
    attempts: list[tuple[Any, ...]] = [
        ("SELECT 1",),
        ("SELECT 1",),
        ("SELECT day_off FROM holiday WHERE LOWER(center) = %s", centre.lower()),
    ]
    for number, asked in enumerate(attempts, start=1):
        try:
            print(f"attempt {number}: {attempt(*asked)}")  # noqa: T201 - as it stands there
        except Exception as error:  # noqa: BLE001 - as it stands there
            print(f"attempt {number} failed: {error}")  # noqa: T201 - as it stands there


if __name__ == "__main__":
    main()
    PostgresqlConnection.close_all()
