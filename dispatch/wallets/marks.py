"""Which withdrawals have paid out what was earned: marks for people, derived when somebody looks. No money goes by them."""

from collections.abc import Sequence
from uuid import UUID

from dispatch.earnings import Payout
from dispatch.kit.postgres import Tx
from dispatch.wallets.store import Q


class Marks:
    """Answers `PaidOut`."""

    async def payouts(
        self, tx: Tx, user_id: UUID, currency: str, *, lowest_minor: int, highest_minor: int
    ) -> Sequence[Payout]:
        """Completed withdrawals, the oldest first, whose running sums reach from the one bound to the other."""
        rows = await tx.fetch(Q["paid_out"], user_id, currency, lowest_minor, highest_minor)
        return [Payout(row["id"], row["upto"]) for row in rows]
