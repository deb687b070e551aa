"""`python -m bench storm`: thousands of phones return at once; the first of the storms of `bench.storms`."""

from bench.storms.command import storm as main

__all__ = ["main"]
