"""What the manuals of the two origins show, as applications in our own words.

Each is written for the old API and differs from what it would be there by its import.
"""
