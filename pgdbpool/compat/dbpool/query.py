"""`Query`: statements on what is held at a place."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2.extras import DictCursor

from pgdbpool.compat.dbpool.connection import Connection, Place

Parameters = Sequence[Any] | Mapping[str, Any] | None


class Query:
    """Static methods; each raises DBConnectionError where nothing is held."""

    @staticmethod
    def execute(
        connection: Place,
        sql_statement: str,
        sql_params: Parameters = None,
    ) -> DictCursor:
        """Execute a statement and return its cursor. Blocks.

        The cursor is closed when the connection is released.

        Raises:
            DBQueryError: it fails; nothing is tried again.
        """
        return Connection.get_held(connection).execute(sql_statement, sql_params)

    @staticmethod
    def execute_prepared(connection: Place, sql_params: Sequence[Any]) -> Any:  # noqa: ANN401 - what JSON has
        """Execute a prepared query and return its answer. Blocks.

        Args:
            connection: the place.
            sql_params: the type, the id, the request as JSON, the names of its
                parameters.

        Raises:
            DBQueryError: it fails.
            ValueError: there are no parameters.
        """
        if sql_params is None:
            raise ValueError("sql_params must be given.")
        return Connection.get_held(connection).execute_prepared(sql_params)

    @staticmethod
    def check_db(connection: Place) -> None:
        """Ping what is held at a place. Blocks for a round trip.

        Raises:
            DBOfflineError: it does not answer.
        """
        Connection.get_held(connection).check()
