"""What ends the demo with one line instead of a traceback."""


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to change."""
