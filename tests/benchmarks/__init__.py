"""The benchmarks: pgdbpool beside its peers and the floor, ratios of one run.

Run by ``python -m tests.benchmarks``; ``--help`` tells the rest. Every number is
compared with another one taken in the same process, seconds apart, because a
microsecond of one machine says nothing about another.
"""
