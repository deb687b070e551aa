"""Typed calls: documents and vehicles."""

from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp

from protocol.papers import DocumentType, ReviewAction

if TYPE_CHECKING:
    from protocol.http import Http


class PaperCalls:
    """The calls of one `Http`, as its attribute `papers`."""

    def __init__(self, http: "Http") -> None:
        self._http = http
        self._call = http.call

    # --- the provider

    async def upload(
        self,
        document_type: DocumentType | str,
        file: bytes | Callable[[], AsyncIterable[bytes]],
        *,
        expiry_date: str | None = None,
        file_name: str = "scan",
        key: str | None = None,
    ) -> dict[str, Any]:
        """{"document_id", "storage_path", "status"}. `file`: its bytes, or what gives a fresh stream of them for each try."""

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData()
            data.add_field("document_type", str(document_type))
            if expiry_date is not None:
                data.add_field("expiry_date", expiry_date)
            content = file if isinstance(file, bytes) else file()
            data.add_field("file", content, filename=file_name, content_type="application/octet-stream")
            return data

        return await self._http.send("POST", "/v1/providers/me/documents", form, key=key)

    async def documents(self) -> dict[str, Any]:
        """{"items": [Document]}: those that stand first, then history."""
        return await self._call("GET", "/v1/providers/me/documents")

    async def link(self, document_id: UUID | str) -> dict[str, Any]:
        """{"url", "expires_at"}; the address may be relative to the server."""
        return await self._call("GET", f"/v1/providers/me/documents/{document_id}/link")

    async def onboarding(self) -> dict[str, Any]:
        """{"provider_id", "status", "steps": [OnboardingProgress]}."""
        return await self._call("GET", "/v1/providers/me/onboarding")

    async def add_vehicle(self, *, key: str | None = None, **fields: object) -> dict[str, Any]:
        """vehicle_type, make, model, year, plate_number, color, registration_expiry, insurance_expiry, registration_document_id?"""
        return await self._call("POST", "/v1/providers/me/vehicles", fields, key=key)

    async def vehicles(self) -> dict[str, Any]:
        return await self._call("GET", "/v1/providers/me/vehicles")

    async def patch_vehicle(self, vehicle_id: UUID | str, **fields: object) -> dict[str, Any]:
        """Any field of `add_vehicle`, and `version`."""
        return await self._call("PATCH", f"/v1/providers/me/vehicles/{vehicle_id}", fields)

    async def activate_vehicle(self, vehicle_id: UUID | str) -> dict[str, Any]:
        return await self._call("POST", f"/v1/providers/me/vehicles/{vehicle_id}/activate")

    # --- the office

    async def verification(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of providers with something to verify, the oldest submission first."""
        return await self._call("GET", "/v1/admin/verification", params={"limit": limit, "cursor": cursor})

    async def documents_of(self, provider_id: UUID | str) -> dict[str, Any]:
        return await self._call("GET", f"/v1/admin/providers/{provider_id}/documents")

    async def link_of(self, document_id: UUID | str) -> dict[str, Any]:
        return await self._call("GET", f"/v1/admin/documents/{document_id}/link")

    async def review_document(
        self, document_id: UUID | str, action: ReviewAction | str, reason: str | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        body = {"action": str(action), "reason": reason}
        return await self._call("POST", f"/v1/admin/documents/{document_id}/review", body, key=key)

    async def review_vehicle(
        self,
        vehicle_id: UUID | str,
        action: ReviewAction | str,
        reason: str | None = None,
        *,
        version: int | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        body = {"action": str(action), "reason": reason, "version": version}
        return await self._call("POST", f"/v1/admin/vehicles/{vehicle_id}/review", body, key=key)
