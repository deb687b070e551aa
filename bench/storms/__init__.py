"""Thousands come back at once, hundreds stop reading, workers are replaced under load: what do the others notice?"""

from bench.storms.command import main

__all__ = ["main"]
