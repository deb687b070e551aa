"""Where documents are kept, by the settings."""

from dispatch.kit.objects import Bucket, BucketRules, Folder, Objects
from dispatch.settings import Settings


def objects_of(settings: Settings) -> Objects:
    """A bucket where one is named, else a folder."""
    if settings.storage_bucket is None:
        return Folder(settings.documents_dir)
    return Bucket(
        BucketRules(
            settings.storage_bucket,
            endpoint=settings.storage_endpoint,
            region=settings.storage_region,
            key_id=settings.storage_key_id,
            secret=None if settings.storage_secret is None else settings.storage_secret.get_secret_value(),
            timeout_s=settings.storage_timeout_s,
        )
    )
