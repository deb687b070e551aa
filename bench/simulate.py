"""`python -m bench simulate`: see `bench.matching`."""

from bench.matching.command import main

__all__ = ["main"]
