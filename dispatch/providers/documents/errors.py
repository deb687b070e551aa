"""Failures of documents, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class DocumentMissing(DispatchError):
    """There is no such document, or none that the caller may know of."""

    code = ErrorCode.DOCUMENT_NOT_FOUND


class BadFile(DispatchError):
    """The file is empty."""

    code = ErrorCode.INVALID_FILE


class UnsupportedFile(DispatchError):
    """The file is of no kind that a reviewer can look at."""

    code = ErrorCode.UNSUPPORTED_FILE_TYPE
