"""Who we are: what a pool logs in with, and where that comes from."""
