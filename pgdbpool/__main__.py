"""``python -m pgdbpool``, the same as the command ``pgdbpool``."""

from pgdbpool.cli import main

main()
