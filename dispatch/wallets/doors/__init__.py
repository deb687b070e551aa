"""Services that pay, each behind `PayoutDoor`."""

from dispatch.settings import Settings
from dispatch.wallets.doors.folder import PayoutFolder
from dispatch.wallets.doors.http import PayoutGateway
from dispatch.wallets.model import PayoutDoor
from protocol.resources.wallets import PaidBy

__all__ = ["PayoutFolder", "PayoutGateway", "door_of", "way_of"]


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


def way_of(settings: Settings) -> PaidBy:
    """What a withdrawal is marked with that these settings let go: no other door looks after it."""
    return {"http": PaidBy.GATEWAY, "folder": PaidBy.FOLDER, "manual": PaidBy.MANUAL}[settings.payout_by]
