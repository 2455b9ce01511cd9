"""The programs of 1.x's example with several servers: writers and readers."""

import threading

from pgdbpool.compat.dbpool import Handler


def insert(times: int) -> None:
    """Write by two groups in turns."""
    for _ in range(times):
        for group, values in (("writer1", ("a", "b")), ("writer2", ("c", "d"))):
            with Handler(group) as db:
                for value in values:
                    db.query("INSERT INTO table1 (col1) VALUES (%s)", (value,))


def update(times: int) -> None:
    """Write the same row by three threads."""

    def work(group: str) -> None:
        for number in range(times):
            with Handler(group) as db:
                db.query("UPDATE table1 SET col1 = %s WHERE id = 1", (number,))

    _run([(work, group) for group in ("writer1", "writer2", "writer1")])


def select(times: int) -> list[int]:
    """Return how many rows were seen, of three threads that read."""
    seen: list[int] = []

    def work(group: str) -> None:
        for _ in range(times):
            with Handler(group) as db:
                seen.append(len(db.query("SELECT * FROM table1").fetchall()))

    _run([(work, group) for group in ("reader1", "reader2", "reader1")])
    return seen


def _run(works: list[tuple[object, str]]) -> None:
    threads = [threading.Thread(target=work, args=(group,)) for work, group in works]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
