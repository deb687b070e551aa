"""`python -m bench tables`: the judge beside a long history: does an accept, or a list, cost more when there are millions of old jobs?

A history is written by SQL into an embedded Postgres: eight of ten jobs completed, one cancelled before anybody took it, one after; each
with a wave of five offers and its events. At each size the accept function is called on fresh jobs as the server calls it (one client, so
that it waits for nobody), and each list is asked as the server asks it: by the role and the settings of its connections, under row security.
Then each runs once more under auto_explain. A plan that reads half of the history or more is told, and the exit code is 1.
"""

from bench.tables.command import main

__all__ = ["main"]
