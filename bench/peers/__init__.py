"""The same work here and in what people would use instead: small servers written for it, each as its makers and tutorials say.

`main` runs it. Which room does what: `node/` are peers (a), `ws`, and (b), Socket.IO; `gateway` and `design.sql` are peer (c), Postgres
alone; `packages` installs what Node needs, `sides` starts servers and speaks for them, `line` are their phones; `works` and `races` are
what is measured, `judge` compares the accept functions alone; `ratios` compares, `command` puts it together.
"""

from bench.peers.command import main

__all__ = ["main"]
