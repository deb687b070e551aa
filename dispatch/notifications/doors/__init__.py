"""Services that take messages: the ways out of the app, each behind `Door`."""

from collections.abc import Mapping
from pathlib import Path

from dispatch.kit.clock import Clock
from dispatch.notifications.doors.fcm import Fcm
from dispatch.notifications.doors.folder import MailFolder, SmsFolder
from dispatch.notifications.doors.recording import Recording
from dispatch.notifications.doors.sms import SmsGateway
from dispatch.notifications.doors.smtp import Smtp
from dispatch.notifications.doors.webpush import WebPush, endpoint_problem
from dispatch.notifications.model import Door
from dispatch.settings import Settings

__all__ = [
    "Fcm",
    "MailFolder",
    "Recording",
    "SmsFolder",
    "SmsGateway",
    "Smtp",
    "WebPush",
    "doors_of",
    "endpoint_problem",
]


def doors_of(settings: Settings, clock: Clock) -> Mapping[str, Door]:
    """The doors that these settings open: "email", "sms", "fcm", "webpush". What is not configured is not there.

    Raises: ValueError for settings that no door can be made of.
    """
    doors: dict[str, Door] = {}
    if settings.mail_by == "smtp":
        doors["email"] = Smtp(
            settings.smtp_host,
            settings.smtp_port,
            security=settings.smtp_security,
            user=settings.smtp_user,
            password=None if settings.smtp_password is None else settings.smtp_password.get_secret_value(),
            sender=settings.mail_from,
            clock=clock,
            timeout_s=settings.send_timeout_s,
        )
    elif settings.mail_by == "folder":
        doors["email"] = MailFolder(Path(settings.data_dir) / "mail", sender=settings.mail_from, clock=clock)
    if settings.sms_by == "http":
        doors["sms"] = SmsGateway(
            settings.sms_url,
            user=settings.sms_user,
            password=None if settings.sms_password is None else settings.sms_password.get_secret_value(),
            sender=settings.sms_from,
        )
    elif settings.sms_by == "folder":
        doors["sms"] = SmsFolder(Path(settings.data_dir) / "sms")
    if settings.fcm_account is not None:
        doors["fcm"] = Fcm(settings.fcm_account.get_secret_value(), url=settings.fcm_url, clock=clock)
    if settings.vapid_private_key is not None:
        doors["webpush"] = WebPush(
            settings.vapid_private_key.get_secret_value(),
            subject=settings.vapid_subject,
            clock=clock,
            loopback=settings.webpush_loopback,
        )
    return doors
