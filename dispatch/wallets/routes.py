"""HTTP door of wallets."""

from collections.abc import Sequence

from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Param, Route
from dispatch.wallets.accounts import BankAccounts as Accounts
from dispatch.wallets.service import Wallets
from dispatch.wallets.withdrawals import Withdrawals
from protocol.errors import ErrorCode
from protocol.resources import Page
from protocol.resources.wallets import (
    BankAccount,
    BankAccountFiles,
    BankAccountRequest,
    BankAccounts,
    WalletEntry,
    WalletPage,
    Withdrawal,
    WithdrawalFile,
    WithdrawalMove,
    WithdrawalRequest,
    WithdrawalRequested,
    WithdrawalStatus,
)

_CURRENCY: dict[str, str | Param] = {"currency": "ISO 4217; the one last earned in unless told"}
_PAGE: dict[str, str | Param] = {**QUERY}


def routes(wallets: Wallets, accounts: Accounts, withdrawals: Withdrawals) -> Sequence[Route]:
    async def wallet(call: Call) -> Answered:
        return Answered(await wallets.wallet(call.actor, call.query.get("currency")))

    async def entries(call: Call) -> Answered:
        return Answered(
            await wallets.entries(
                call.actor, call.query.get("currency"), limit=call.limit(), cursor=call.query.get("cursor")
            )
        )

    async def add(call: Call) -> Answered:
        answer = await accounts.add(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def own_accounts(call: Call) -> Answered:
        return Answered(await accounts.mine(call.actor))

    async def remove(call: Call) -> Answered:
        await accounts.remove(call.actor, call.id("id"))
        return Answered(b"", 204)

    async def accounts_of(call: Call) -> Answered:
        return Answered(await accounts.of_provider(call.actor, call.id("id")))

    async def request(call: Call) -> Answered:
        answer = await withdrawals.request(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def history(call: Call) -> Answered:
        return Answered(await withdrawals.page(call.actor, limit=call.limit(), cursor=call.query.get("cursor")))

    async def read(call: Call) -> Answered:
        return Answered(await withdrawals.read(call.actor, call.id("id")))

    async def everybodys(call: Call) -> Answered:
        return Answered(
            await withdrawals.everybodys(
                call.actor,
                status=call.one_of("status", WithdrawalStatus),
                stuck=call.flag("stuck") or False,
                limit=call.limit(),
                cursor=call.query.get("cursor"),
            )
        )

    async def file(call: Call) -> Answered:
        return Answered(await withdrawals.file(call.actor, call.id("id")))

    async def decide(call: Call) -> Answered:
        answer = await withdrawals.decide(call.actor, call.id("id"), call.body, call.key)
        return Answered(answer.body, answer.status)

    return [
        Route("GET", "/v1/wallet", wallet, "The own wallet in one currency", WalletPage, query=_CURRENCY),
        Route(
            "GET",
            "/v1/wallet/entries",
            entries,
            "What changed the own wallet, newest first",
            Page[WalletEntry],
            query=_CURRENCY | _PAGE,
        ),
        Route(
            "POST",
            "/v1/providers/me/bank-accounts",
            add,
            "Link a bank account to an own document that waits for its review",
            BankAccount,
            body=BankAccountRequest,
            status=201,
            errors=(
                ErrorCode.PROVIDER_NOT_FOUND,
                ErrorCode.DOCUMENT_NOT_FOUND,
                ErrorCode.DOCUMENT_ALREADY_VERIFIED,
            ),
            idempotent=True,
        ),
        Route(
            "GET", "/v1/providers/me/bank-accounts", own_accounts, "The own bank accounts, newest first", BankAccounts
        ),
        Route(
            "DELETE",
            "/v1/providers/me/bank-accounts/{id}",
            remove,
            "No money goes there any more",
            None,
            status=204,
            errors=(ErrorCode.BANK_ACCOUNT_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/admin/providers/{id}/bank-accounts",
            accounts_of,
            "A provider's bank accounts with their numbers; each reading is written down",
            BankAccountFiles,
            who="admin",
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "POST",
            "/v1/withdrawals",
            request,
            "Ask for money; it is held until the withdrawal is decided",
            WithdrawalRequested,
            body=WithdrawalRequest,
            status=201,
            errors=(
                ErrorCode.INSUFFICIENT_AMOUNT,
                ErrorCode.PROVIDER_NOT_FOUND,
                ErrorCode.PROVIDER_NOT_APPROVED,
                ErrorCode.PROVIDER_SUSPENDED,
                ErrorCode.BANK_ACCOUNT_NOT_FOUND,
                ErrorCode.BANK_ACCOUNT_NOT_VERIFIED,
                ErrorCode.INSUFFICIENT_BALANCE,
            ),
            idempotent=True,
            key_required=True,
        ),
        Route("GET", "/v1/withdrawals", history, "The own withdrawals, newest first", Page[Withdrawal], query=_PAGE),
        Route("GET", "/v1/withdrawals/{id}", read, "One of the own withdrawals", Withdrawal),
        Route(
            "GET",
            "/v1/admin/withdrawals",
            everybodys,
            "Everybody's withdrawals, oldest first",
            Page[WithdrawalFile],
            who="admin",
            query={
                "status": Param("only these", WithdrawalStatus),
                "stuck": "true: only those that have been processing for more than 30 minutes",
                **QUERY,
            },
        ),
        Route(
            "GET",
            "/v1/admin/withdrawals/{id}",
            file,
            "One withdrawal with the account number that it goes to; each reading is written down",
            WithdrawalFile,
            who="admin",
        ),
        Route(
            "POST",
            "/v1/admin/withdrawals/{id}/actions",
            decide,
            "Let a withdrawal go, turn it down, or say by hand how it ended",
            WithdrawalFile,
            who="admin",
            body=WithdrawalMove,
            errors=(ErrorCode.REASON_REQUIRED, ErrorCode.INVALID_STATUS_TRANSITION),
            idempotent=True,
            key_required=True,
        ),
    ]
