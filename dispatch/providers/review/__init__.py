"""The office's side of papers: the queue, approving and rejecting, and where an application stands.

A review locks the provider's gate, so it and an upload, another review or an expiry come one after the other.
"""

from dispatch.providers.review.service import Review

__all__ = ["Review"]
