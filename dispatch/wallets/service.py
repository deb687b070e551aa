"""What somebody has, and how it came about."""

import orjson

from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres
from dispatch.ledger import Purse, wallet_of
from dispatch.markets import Markets
from dispatch.wallets.store import Q, currency_for, purses

_SEQ_MAX = 2**63 - 1


class Wallets:
    """One per worker."""

    def __init__(self, pg: Postgres, markets: Markets) -> None:
        self._pg = pg
        self.markets = markets

    async def wallet(self, actor: Actor, currency: str | None) -> bytes:
        """The own wallet in one currency; empty for who has never had anything. Raises: Invalid for a currency that nobody uses here."""
        async with self._pg.acting(actor) as tx:
            found = await purses(tx, actor.user_id)
            shown = await currency_for(tx, actor.user_id, currency, found, self.markets)
        purse = found.get(shown) or Purse(actor.user_id, shown, 0, 0, 0, 0)
        return orjson.dumps({**wallet_of(purse), "currencies": list(found)})

    async def entries(self, actor: Actor, currency: str | None, *, limit: int, cursor: str | None) -> bytes:
        """A page of the own wallet's entries in one currency, newest first. Raises: Invalid."""
        _, before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            found = await purses(tx, actor.user_id)
            shown = await currency_for(tx, actor.user_id, currency, found, self.markets)
            rows = await tx.fetch(Q["entries"], actor.user_id, shown, min(before.int, _SEQ_MAX), limit + 1)
        return page(rows, limit)
