"""Promises kept while servers, networks and processes break."""
