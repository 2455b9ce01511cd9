"""Promises kept without a server, a network or a sleep."""
