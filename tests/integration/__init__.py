"""Promises kept on a real PostgreSQL."""
