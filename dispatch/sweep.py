"""What servers do every ten minutes, done once by hand: papers that end, uploads that were left over."""

from dispatch.admin import Expiry, Swept
from dispatch.kit.clock import SystemClock
from dispatch.kit.postgres import Postgres
from dispatch.notifications import Notifications
from dispatch.providers.documents import Uploads, objects_of
from dispatch.settings import Settings


async def papers_swept(settings: Settings) -> Swept:
    """One sweep of papers without a server around it; running servers hear of it by their own loops."""
    async with Postgres.open(_needed(settings.database_url), size=2) as pg:
        return await Expiry(pg, Notifications(), SystemClock()).sweep()


async def uploads_swept(settings: Settings) -> int:
    """Remove what uploads have left behind; how many objects went. Raises StorageUnavailable."""
    objects = 0
    async with Postgres.open(_needed(settings.database_url), size=2) as pg:
        while gone := await Uploads(pg, objects_of(settings)).sweep():
            objects += gone
    return objects


def _needed(url: str | None) -> str:
    if url is None:
        raise ValueError("sweeping needs a database")
    return url
