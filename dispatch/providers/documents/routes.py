"""HTTP door of documents."""

from collections.abc import Sequence

from dispatch.kit.route import Answered, Call, Form, Route, Sent
from dispatch.providers.documents.service import Documents
from protocol.errors import ErrorCode
from protocol.resources import papers


def routes(documents: Documents, *, within_s: float) -> Sequence[Route]:
    async def upload(call: Call) -> Answered:
        answer = await documents.upload(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def mine(call: Call) -> Answered:
        return Answered(await documents.mine(call.actor))

    async def link(call: Call) -> Answered:
        return Answered(await documents.link(call.actor, call.id("id")))

    async def of(call: Call) -> Answered:
        return Answered(await documents.of(call.actor, call.id("id")))

    async def link_of(call: Call) -> Answered:
        return Answered(await documents.link(call.actor, call.id("id"), anybodys=True))

    async def file(call: Call) -> Sent:
        return await documents.file(call.path["token"])

    missing = (ErrorCode.DOCUMENT_NOT_FOUND, ErrorCode.STORAGE_UNAVAILABLE)
    return [
        Route(
            "POST",
            "/v1/providers/me/documents",
            upload,
            "Upload a document: JPEG, PNG, WebP, HEIC or PDF by its content, 10 MiB at most. It takes the place of one that waits",
            papers.DocumentUploaded,
            body=Form(papers.DocumentForm, within_s=within_s),
            status=201,
            errors=(
                ErrorCode.PROVIDER_NOT_FOUND,
                ErrorCode.INVALID_FILE,
                ErrorCode.UNSUPPORTED_FILE_TYPE,
                ErrorCode.STORAGE_UNAVAILABLE,
            ),
            idempotent=True,
        ),
        Route(
            "GET",
            "/v1/providers/me/documents",
            mine,
            "The own documents: those that stand, then history",
            papers.Documents,
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/providers/me/documents/{id}/link",
            link,
            "An address to download an own document from, for a few minutes",
            papers.FileLink,
            errors=missing,
        ),
        Route(
            "GET",
            "/v1/admin/providers/{id}/documents",
            of,
            "A provider's documents",
            papers.Documents,
            who="admin",
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/admin/documents/{id}/link",
            link_of,
            "An address to download a document from, for a few minutes",
            papers.FileLink,
            who="admin",
            errors=missing,
        ),
        Route(
            "GET",
            "/v1/files/{token}",
            file,
            "The file of a link: whoever has it may read it until it ends",
            bytes,
            who="anyone",
            errors=(ErrorCode.STORAGE_UNAVAILABLE,),
        ),
    ]
