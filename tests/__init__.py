"""The tests: `unit` without a server, `integration` on one, `chaos` against it.

"Row 4" in a docstring is a row of the table of what a pool must survive, which was
collected from what users of other pools reported; M1 to M14 are defects of the
singleton this project grew from.
"""
