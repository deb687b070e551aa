"""HTTP door of accounts."""

from collections.abc import Sequence

import orjson

from dispatch.accounts.service import TICKET_TTL_S, Accounts
from dispatch.kit.phone import e164
from dispatch.kit.route import Answered, Call, Route
from protocol.errors import ErrorCode
from protocol.resources import Me, MePatch, Ticket


def routes(accounts: Accounts) -> Sequence[Route]:
    async def me(call: Call) -> Answered:
        return Answered(orjson.dumps(await accounts.me(call.actor)))

    async def change(call: Call) -> Answered:
        patch: MePatch = call.body
        phone = None if patch.phone_number is None else e164(patch.phone_number)
        fields = await accounts.change_me(
            call.actor, first_name=patch.first_name, last_name=patch.last_name, phone_number=phone, locale=patch.locale
        )
        return Answered(orjson.dumps(fields))

    async def ticket(call: Call) -> Answered:
        return Answered(orjson.dumps({"ticket": await accounts.sell_ticket(call.token), "expires_in_s": TICKET_TTL_S}))

    return [
        Route("GET", "/v1/me", me, "The own user", Me),
        Route("PATCH", "/v1/me", change, "Change the own user; absent fields stay", Me, body=MePatch),
        Route(
            "POST",
            "/v1/socket/tickets",
            ticket,
            "A one-use ticket for a browser's socket, good for 30 s",
            Ticket,
            errors=(ErrorCode.OVERLOADED,),
        ),
    ]
