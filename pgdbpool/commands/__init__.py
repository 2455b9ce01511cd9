"""What people run from a shell; it needs click, and rich."""
