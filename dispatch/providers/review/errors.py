"""Failures of reviews, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class AlreadyVerified(DispatchError):
    """The document does not wait for a review: it was reviewed, replaced, or has run out."""

    code = ErrorCode.DOCUMENT_ALREADY_VERIFIED
