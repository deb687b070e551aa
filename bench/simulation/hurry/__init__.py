"""The model of Redis, the hurry: at the doors of redis-py's clients, with the functions of `dispatch/*/lua` as Python."""

from bench.simulation.hurry.functions import FUNCTIONS
from bench.simulation.hurry.server import RedisModel

__all__ = ["FUNCTIONS", "RedisModel"]
