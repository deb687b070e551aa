"""Chaos on real processes: four workers, Postgres and Redis, a proxy on every link, and a seeded nemesis (reliability.md §4, tier B).

`main` runs it. Which room does what: `stores` and `workers` are the processes, `cluster` joins them by proxies; `phones`, `asking` and
`city` are the people; `plan` draws the faults, `nemesis` times them, `blows` and `clocks` do them; `recorder` writes down what clients
asked and were told, `logs` reads what workers said, `figures` counts, `run` puts it together.
"""

from bench.chaos.command import main

__all__ = ["main"]
