"""The status page in a terminal: where it comes from, and how it looks there."""
