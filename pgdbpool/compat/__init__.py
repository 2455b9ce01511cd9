"""The APIs of older pools, thin, on `ConnectionPool`: one import line is changed.

`dbpool` is that of pgdbpool 1.x, `singleton` that of the PostgresqlConnection
singleton, `psycopg2_pool` that of `psycopg2.pool`.
"""
