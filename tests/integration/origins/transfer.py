"""1.x's transaction: money from one account to another, and a line in a log."""

from typing import Any

from pgdbpool.compat import dbpool


def transfer_funds(source: int, target: int, amount: Any) -> bool:  # noqa: ANN401 - also what is no amount
    """Return whether it was committed; else nothing of it is."""
    move = "UPDATE accounts SET balance = balance + %s WHERE id = %s"
    try:
        with dbpool.Handler("write_pool") as db:
            db.query(move, (-amount, source))
            db.query(move, (amount, target))
            db.query(
                "INSERT INTO transaction_log (from_id, to_id, amount) "
                "VALUES (%s, %s, %s)",
                (source, target, amount),
            )
            db.commit()
            return True
    except Exception as error:  # noqa: BLE001 - as it stands there
        print(f"Transaction failed: {error}")  # noqa: T201 - as it stands there
        return False
