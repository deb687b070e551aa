"""Clients that mean harm: recorded frames of real phones, broken in every way, by the million."""

from bench.hostile.command import main

__all__ = ["main"]
