"""Counting completed jobs in the programs that run."""

from collections.abc import Sequence

from dispatch.earnings import Bonus
from dispatch.jobs import Completed
from dispatch.kit.postgres import Tx


class Counting:
    """One per worker."""

    async def earned(self, tx: Tx, done: Completed) -> Sequence[Bonus]:
        """Count `done` in the running programs; the tiers that it reaches, each once for ever."""
        return ()
