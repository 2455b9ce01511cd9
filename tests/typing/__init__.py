"""The public API as a type checker sees it; mypy runs here, not pytest."""
