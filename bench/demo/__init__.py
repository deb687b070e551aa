"""The demo: a recorded night of San Francisco's cabs through the real server, over real sockets and HTTP.

`main` runs it. Which room does what: `recording` reads the day, `motion` and `people` say how cabs and people
behave, `stage` starts the server, `cab`, `rider` and `replay` are the run itself, `tally` and `summary` count
it, `view` and `screen` show it. Nothing here is needed to run or to test the server.
"""

from bench.demo.command import main

__all__ = ["main"]
