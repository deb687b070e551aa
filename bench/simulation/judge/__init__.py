"""The model of Postgres, the judge: at the doors of asyncpg's pools, executing the slices' statements by their text."""

from bench.simulation.judge import accept, accounts, inbox, jobs, matching, providers
from bench.simulation.judge.server import PostgresModel
from bench.simulation.judge.statements import MODELS, OUTSIDE, QUERIES, UnknownStatement
from bench.simulation.judge.tables import Session, Tables

__all__ = [
    "MODELS",
    "OUTSIDE",
    "QUERIES",
    "PostgresModel",
    "Session",
    "Tables",
    "UnknownStatement",
    "accept",
    "accounts",
    "inbox",
    "jobs",
    "matching",
    "providers",
]
