"""A provider's documents: uploaded as a stream, kept privately, never shown but by links that end.

Rows are the truth; an object without a row stands in `provider_uploads` from before its first byte, so nothing is lost in the store.
"""

from dispatch.providers.documents.errors import DocumentMissing
from dispatch.providers.documents.service import Documents
from dispatch.providers.documents.storage import objects_of
from dispatch.providers.documents.uploads import Uploads

__all__ = ["DocumentMissing", "Documents", "Uploads", "objects_of"]
