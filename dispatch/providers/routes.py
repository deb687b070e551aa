"""HTTP door of the own provider record."""

from collections.abc import Sequence

from dispatch.accounts import Accounts
from dispatch.kit.route import Answered, Call, Route
from dispatch.providers.service import Providers
from protocol.errors import ErrorCode
from protocol.resources import Provider, ProviderCreated, ProviderPatch, ProviderRequest


def routes(providers: Providers, accounts: Accounts) -> Sequence[Route]:
    async def register(call: Call) -> Answered:
        answer = await providers.register(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def mine(call: Call) -> Answered:
        return Answered(await providers.mine(call.actor))

    async def change(call: Call) -> Answered:
        patch: ProviderPatch = call.body
        view = await providers.change(call.actor, patch)
        if patch.locale is not None:
            await accounts.change_me(
                call.actor, first_name=None, last_name=None, phone_number=None, locale=patch.locale
            )
        return Answered(view)

    async def reapply(call: Call) -> Answered:
        return Answered(await providers.reapply(call.actor))

    taken = (ErrorCode.EMAIL_TAKEN, ErrorCode.PHONE_TAKEN, ErrorCode.PROVIDER_EXISTS, ErrorCode.INVALID_REFERRAL_CODE)
    return [
        Route(
            "POST",
            "/v1/providers",
            register,
            "Register as a provider; an admin approves",
            ProviderCreated,
            body=ProviderRequest,
            status=201,
            errors=taken,
            idempotent=True,
        ),
        Route(
            "GET", "/v1/providers/me", mine, "The own provider record", Provider, errors=(ErrorCode.PROVIDER_NOT_FOUND,)
        ),
        Route(
            "PATCH",
            "/v1/providers/me",
            change,
            "Change profile fields of the own record; status and rating are not among them",
            Provider,
            body=ProviderPatch,
            errors=(
                ErrorCode.PROVIDER_NOT_FOUND,
                ErrorCode.PHONE_TAKEN,
                ErrorCode.DOCUMENTS_INCOMPLETE,
                ErrorCode.PROVIDER_SUSPENDED,
            ),
        ),
        Route(
            "POST",
            "/v1/providers/me/reapply",
            reapply,
            "Apply again after a rejection; rejected documents have to be uploaded again",
            Provider,
            errors=(ErrorCode.PROVIDER_NOT_FOUND, ErrorCode.INVALID_STATUS_TRANSITION),
        ),
    ]
