"""Bodies of multipart/form-data, part by part as they come: nothing is collected that has no bound."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from dispatch.kit.clock import Clock
from dispatch.kit.errors import FileTooLarge, Invalid
from dispatch.kit.route import Form, Part

FIELD_BYTES_MAX = 200
CHUNK_BYTES = 64 * 1024
_AROUND_BYTES = 64 * 1024
"""What boundaries, headers and fields may add to the file."""
_BROKEN = (ValueError, AssertionError, RuntimeError, LookupError, BadHttpMessage)
"""What aiohttp's reader raises for a body that is no multipart, or ends too early."""


async def parts_of(request: web.Request, form: Form, clock: Clock) -> AsyncIterator[Part]:
    """The parts in the order of the wire, each name at most once, no other names. Whether any are missing is the caller's to see.

    Raises: Invalid, FileTooLarge; both while the body is still coming.
    """
    if request.content_length is not None and request.content_length > form.bytes_max + _AROUND_BYTES:
        raise FileTooLarge("the body is larger than any file may be", bytes_max=form.bytes_max)
    if request.content_type != "multipart/form-data" or "boundary" not in request.headers.get("Content-Type", ""):
        raise _wrong("Content-Type", "multipart/form-data with a boundary")
    wanted = {form.file, *form.fields.__struct_fields__}  # type: ignore[attr-defined]
    deadline = clock.monotonic() + form.within_s
    seen: set[str] = set()
    try:
        reader = await request.multipart()
        while (part := await _in_time(reader, deadline, clock, form)) is not None:
            name = part.name if isinstance(part, BodyPartReader) else None
            if name is None or name not in wanted:
                raise _wrong(name or "a part", f"no part of this form: {', '.join(sorted(wanted))}")
            if name in seen:
                raise _wrong(name, "given twice")
            seen.add(name)
            assert isinstance(part, BodyPartReader)
            bound = form.bytes_max if name == form.file else FIELD_BYTES_MAX
            yield Part(name, _chunks(part, name, bound, deadline, clock, form))
    except _BROKEN as error:
        raise Invalid("the body is no whole multipart/form-data", problem=str(error)[:200]) from error


async def _in_time(
    reader: MultipartReader, deadline: float, clock: Clock, form: Form
) -> "MultipartReader | BodyPartReader | None":
    try:
        async with asyncio.timeout(max(0.0, deadline - clock.monotonic())):
            return await reader.next()
    except TimeoutError as error:
        raise _late(form) from error


async def _chunks(
    part: BodyPartReader, name: str, bound: int, deadline: float, clock: Clock, form: Form
) -> AsyncIterator[bytes]:
    size = 0
    while not part.at_eof():
        try:
            async with asyncio.timeout(max(0.0, deadline - clock.monotonic())):
                chunk = await part.read_chunk(CHUNK_BYTES)
        except TimeoutError as error:
            raise _late(form) from error
        except _BROKEN as error:
            raise _wrong(name, "the body ended in the middle of it") from error
        size += len(chunk)
        if size > bound:
            if name == form.file:
                raise FileTooLarge(f"more than {bound} bytes", bytes_max=bound)
            raise _wrong(name, f"at most {bound} bytes")
        if chunk:
            yield bytes(chunk)


def _wrong(field: str, problem: str) -> Invalid:
    return Invalid(f"{field}: {problem}", fields=[{"field": field[:50], "problem": problem}])


def _late(form: Form) -> Invalid:
    return _wrong(form.file, f"did not come within {form.within_s:g} s")
