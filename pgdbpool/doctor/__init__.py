"""Looks at the servers of a pool before the pool does, and says what to change."""
