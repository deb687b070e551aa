"""A simulator of the protocol core: the shipped modules under virtual time, on models of both stores that lie, lose, delay and die.

`run_seed(seed, *, postgres=PostgresModel, redis=RedisModel, shape=None, story=False) -> Outcome` runs one world and judges it:
`.history`, `.violations`, `.trace_hash`, `.faults_by_kind`. Everything follows from the seed. A mutant is a subclass of a model
(`PostgresModel.answer_of(session, sql, args)` is what a statement says, `RedisModel.said(name, words)` what a function says), a
replaced part of `bench.simulation.judge` (`accept.standing`, `views.one_active`), or shipped code that the caller has patched.

What is no model: inbox, gateway, greeter, presence, claims, matching, jobs, providers, admin, tracking, sessions and their loops.
What is: the two stores, TCP and the HTTP upgrade, tokens, other channels' messages, and a payroll that books nothing.
"""

from bench.simulation.hurry import RedisModel
from bench.simulation.judge import PostgresModel
from bench.simulation.world import Outcome, Shape, World, run_seed

__all__ = ["Outcome", "PostgresModel", "RedisModel", "Shape", "World", "run_seed"]
