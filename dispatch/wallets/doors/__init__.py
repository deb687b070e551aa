"""Services that pay, each behind `PayoutDoor`."""

from dispatch.settings import Settings
from dispatch.wallets.doors.folder import PayoutFolder
from dispatch.wallets.doors.http import PayoutGateway
from dispatch.wallets.model import PayoutDoor

__all__ = ["PayoutFolder", "PayoutGateway", "door_of"]


def door_of(settings: Settings) -> PayoutDoor | None:
    """The door that these settings open; None: people pay by hand."""
    match settings.payout_by:
        case "http":
            assert settings.payout_secret is not None
            return PayoutGateway(settings.payout_url, settings.payout_secret.get_secret_value())
        case "folder":
            return PayoutFolder(settings.data_dir / "payouts")
        case _:
            return None
