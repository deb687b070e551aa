"""Typed calls: wallets, bank accounts and withdrawals; for the office, deciding them."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from protocol.resources.wallets import WithdrawalAction, WithdrawalStatus

if TYPE_CHECKING:
    from protocol.http import Http


class WalletCalls:
    """The calls of one `Http`, as its attribute `wallet`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def wallet(self, currency: str | None = None) -> dict[str, Any]:
        """The Wallet with `currencies`."""
        return await self._call("GET", "/v1/wallet", params={"currency": currency})

    async def entries(
        self, currency: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of WalletEntries, newest first."""
        params = {"currency": currency, "limit": limit, "cursor": cursor}
        return await self._call("GET", "/v1/wallet/entries", params=params)

    async def add_bank_account(
        self,
        *,
        bank_code: str,
        account_number: str,
        account_name: str,
        document_id: UUID | str,
        key: str | None = None,
    ) -> dict[str, Any]:
        """The new BankAccount."""
        body = {
            "bank_code": bank_code,
            "account_number": account_number,
            "account_name": account_name,
            "document_id": str(document_id),
        }
        return await self._call("POST", "/v1/providers/me/bank-accounts", body, key=key)

    async def bank_accounts(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self._call("GET", "/v1/providers/me/bank-accounts"))["items"]
        return items

    async def remove_bank_account(self, account_id: UUID | str) -> None:
        await self._call("DELETE", f"/v1/providers/me/bank-accounts/{account_id}")

    async def withdraw(
        self, amount_minor: int, bank_account_id: UUID | str, *, currency: str | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """The new Withdrawal, with `withdrawal_id`."""
        body = {"amount_minor": amount_minor, "bank_account_id": str(bank_account_id), "currency": currency}
        return await self._call("POST", "/v1/withdrawals", body, key=key)

    async def withdrawals(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of own Withdrawals, newest first."""
        return await self._call("GET", "/v1/withdrawals", params={"limit": limit, "cursor": cursor})

    async def withdrawal(self, withdrawal_id: UUID | str) -> dict[str, Any]:
        return await self._call("GET", f"/v1/withdrawals/{withdrawal_id}")

    # --- the office

    async def everybodys(
        self,
        *,
        status: WithdrawalStatus | str | None = None,
        stuck: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of WithdrawalFiles, oldest first."""
        flag = None if stuck is None else str(stuck).lower()
        params = {"status": status, "stuck": flag, "limit": limit, "cursor": cursor}
        return await self._call("GET", "/v1/admin/withdrawals", params=params)

    async def file(self, withdrawal_id: UUID | str) -> dict[str, Any]:
        """The WithdrawalFile with the whole account number."""
        return await self._call("GET", f"/v1/admin/withdrawals/{withdrawal_id}")

    async def decide(
        self,
        withdrawal_id: UUID | str,
        action: WithdrawalAction | str,
        *,
        reason: str | None = None,
        transaction_id: str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """The WithdrawalFile after it."""
        body = {"action": str(action), "reason": reason, "transaction_id": transaction_id}
        return await self._call("POST", f"/v1/admin/withdrawals/{withdrawal_id}/actions", body, key=key)

    async def bank_accounts_of(self, provider_id: UUID | str) -> list[dict[str, Any]]:
        """A provider's BankAccountFiles, with their numbers."""
        answer = await self._call("GET", f"/v1/admin/providers/{provider_id}/bank-accounts")
        items: list[dict[str, Any]] = answer["items"]
        return items
