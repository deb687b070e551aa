"""Ratings: what customers say of a completed job, and what it comes to for its provider.

The truth is Postgres (`ratings`, `provider_ratings`, `providers.rating`). A job is rated once, by its customer, within 14 days; the means, per
service type and over all, are written in the same transaction under the provider's gate, so that of two ratings at once none is lost.
"""

from dispatch.ratings.service import Ratings

__all__ = ["Ratings"]
