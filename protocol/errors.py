"""The one list of error codes, close codes and reasons, with HTTP status and the sentence people read.

Codes are stable and for programs; sentences are for people and may change. Thai is the default language, English the
other; an unknown locale reads Thai.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, Final, Literal, Self
from uuid import UUID

ONLINE_TEXT: Final[Mapping[str, str]] = {"th": "เปิดรับงานแล้ว", "en": "You are online"}
OFFLINE_TEXT: Final[Mapping[str, str]] = {"th": "ปิดรับงานแล้ว", "en": "You are offline"}

LOCALES: Final = ("th", "en")
DEFAULT_LOCALE: Final = "th"


class ErrorCode(StrEnum):
    """Every code a client may read in `error.code`. The value is the wire string."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    INSUFFICIENT_AMOUNT = "INSUFFICIENT_AMOUNT"
    REASON_REQUIRED = "REASON_REQUIRED"
    INVALID_COORDINATES = "INVALID_COORDINATES"
    INVALID_DATE_RANGE = "INVALID_DATE_RANGE"
    INVALID_TOKEN = "INVALID_TOKEN"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    INVALID_REFERRAL_CODE = "INVALID_REFERRAL_CODE"
    INVALID_TRANSACTION_TYPE = "INVALID_TRANSACTION_TYPE"
    UNSUPPORTED_FILE_TYPE = "UNSUPPORTED_FILE_TYPE"
    INVALID_FILE = "INVALID_FILE"
    AMOUNT_MISMATCH = "AMOUNT_MISMATCH"
    SELF_BOOKING = "SELF_BOOKING"
    INVALID_SIGNATURE = "INVALID_SIGNATURE"
    IDEMPOTENCY_KEY_REQUIRED = "IDEMPOTENCY_KEY_REQUIRED"
    UNKNOWN_CHANNEL = "UNKNOWN_CHANNEL"
    BAD_FRAME = "BAD_FRAME"
    POSITION_REJECTED = "POSITION_REJECTED"

    UNAUTHORIZED = "UNAUTHORIZED"
    SESSION_EXPIRED = "SESSION_EXPIRED"

    FORBIDDEN = "FORBIDDEN"
    PROVIDER_NOT_APPROVED = "PROVIDER_NOT_APPROVED"
    PROVIDER_SUSPENDED = "PROVIDER_SUSPENDED"
    ORIGIN_REFUSED = "ORIGIN_REFUSED"

    NOT_FOUND = "NOT_FOUND"
    PROVIDER_NOT_FOUND = "PROVIDER_NOT_FOUND"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    OFFER_NOT_FOUND = "OFFER_NOT_FOUND"
    DOCUMENT_NOT_FOUND = "DOCUMENT_NOT_FOUND"
    VEHICLE_NOT_FOUND = "VEHICLE_NOT_FOUND"
    BANK_ACCOUNT_NOT_FOUND = "BANK_ACCOUNT_NOT_FOUND"
    NOTIFICATION_NOT_FOUND = "NOTIFICATION_NOT_FOUND"
    TICKET_NOT_FOUND = "TICKET_NOT_FOUND"
    SERVICE_NOT_FOUND = "SERVICE_NOT_FOUND"
    BOOKING_NOT_FOUND = "BOOKING_NOT_FOUND"
    THREAD_NOT_FOUND = "THREAD_NOT_FOUND"
    INVOICE_NOT_FOUND = "INVOICE_NOT_FOUND"
    PARTNER_NOT_FOUND = "PARTNER_NOT_FOUND"
    MEMBER_NOT_FOUND = "MEMBER_NOT_FOUND"
    USER_NOT_FOUND = "USER_NOT_FOUND"

    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"

    JOB_NOT_AVAILABLE = "JOB_NOT_AVAILABLE"
    EMAIL_TAKEN = "EMAIL_TAKEN"
    PHONE_TAKEN = "PHONE_TAKEN"
    PROVIDER_EXISTS = "PROVIDER_EXISTS"
    PLATE_TAKEN = "PLATE_TAKEN"
    PROVIDER_UID_TAKEN = "PROVIDER_UID_TAKEN"
    CONCURRENT_MODIFICATION = "CONCURRENT_MODIFICATION"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    REQUEST_IN_PROGRESS = "REQUEST_IN_PROGRESS"
    SLOT_TAKEN = "SLOT_TAKEN"
    ALREADY_PAID = "ALREADY_PAID"
    RATING_EXISTS = "RATING_EXISTS"
    TIP_EXISTS = "TIP_EXISTS"
    DUPLICATE_MEMBER = "DUPLICATE_MEMBER"
    ALREADY_REVERSED = "ALREADY_REVERSED"

    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    PROVIDER_HAS_ACTIVE_JOB = "PROVIDER_HAS_ACTIVE_JOB"
    DOCUMENT_ALREADY_VERIFIED = "DOCUMENT_ALREADY_VERIFIED"
    INVALID_STATUS_TRANSITION = "INVALID_STATUS_TRANSITION"
    PROVIDER_OFFLINE = "PROVIDER_OFFLINE"
    LOCATION_REQUIRED = "LOCATION_REQUIRED"
    SERVICE_TYPE_MISMATCH = "SERVICE_TYPE_MISMATCH"
    VEHICLE_REQUIRED = "VEHICLE_REQUIRED"
    VEHICLE_NOT_APPROVED = "VEHICLE_NOT_APPROVED"
    JOB_NOT_ACTIVE = "JOB_NOT_ACTIVE"
    JOB_NOT_COMPLETED = "JOB_NOT_COMPLETED"
    TOO_LATE = "TOO_LATE"
    DOCUMENTS_INCOMPLETE = "DOCUMENTS_INCOMPLETE"
    EMAIL_NOT_VERIFIED = "EMAIL_NOT_VERIFIED"
    BANK_ACCOUNT_NOT_VERIFIED = "BANK_ACCOUNT_NOT_VERIFIED"
    BOOKING_NOT_PAYABLE = "BOOKING_NOT_PAYABLE"
    MEMBER_INACTIVE = "MEMBER_INACTIVE"
    PROGRAM_STARTED = "PROGRAM_STARTED"
    DEBT_LIMIT = "DEBT_LIMIT"
    OUTSIDE_MARKET = "OUTSIDE_MARKET"
    CLOCK_SKEW = "CLOCK_SKEW"

    INTERNAL_ERROR = "INTERNAL_ERROR"
    LEDGER_BAD_LEG = "LEDGER_BAD_LEG"
    UNKNOWN_ERROR = "UNKNOWN_ERROR"
    """Never sent: what a client says when it has no code to show."""

    PAYMENT_GATEWAY_ERROR = "PAYMENT_GATEWAY_ERROR"
    EMAIL_UNAVAILABLE = "EMAIL_UNAVAILABLE"
    SMS_UNAVAILABLE = "SMS_UNAVAILABLE"
    PUSH_UNAVAILABLE = "PUSH_UNAVAILABLE"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    OVERLOADED = "OVERLOADED"
    BUSY = "BUSY"


class WhyRejected(StrEnum):
    """`details.why` of POSITION_REJECTED. The last good position stays. A fix from the future is CLOCK_SKEW instead."""

    STALE = "stale"
    OUT_OF_ORDER = "out_of_order"
    IMPOSSIBLE = "impossible"
    MALFORMED = "malformed"


class WithdrawnReason(StrEnum):
    """`reason` of offer.withdrawn. The winner reads `accepted`, every other provider of the round `taken`."""

    TAKEN = "taken"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ByeReason(StrEnum):
    """`reason` of the bye frame. A client acts on the close code; the word is for its log."""

    DRAINING = "draining"
    REPLACED = "replaced"
    REVOKED = "revoked"
    EXPIRED = "expired"
    RATE_LIMITED = "rate_limited"


NO_PROVIDER: Final = "no_provider"
"""`cancellation_reason` of a job that no provider took within the market's job TTL."""

Reconnect = Literal["yes", "no", "new_token", "user"]


class CloseCode(IntEnum):
    """Why the server closed a socket. `reconnect` is what the client does next."""

    reconnect: Reconnect

    def __new__(cls, value: int, reconnect: Reconnect = "yes") -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.reconnect = reconnect
        return member

    GOING_AWAY = 1001, "yes"
    RESTART = 1012, "yes"
    MESSAGE_TOO_BIG = 1009, "no"
    FRAME_TOO_LARGE = 4413, "no"
    NOT_OUR_PROTOCOL = 4400, "no"
    UNAUTHENTICATED = 4401, "new_token"
    BLOCKED = 4403, "no"
    UNRESPONSIVE = 4408, "yes"
    REPLACED = 4409, "no"
    OTHER_DEVICE = 4410, "user"
    FLOODING = 4429, "yes"


def reconnect_policy(code: int | None) -> Reconnect:
    """What to do after a close with `code`. A lost line (None, 1006) or a code of a later version: reconnect."""
    try:
        return CloseCode(code).reconnect if code is not None else "yes"
    except ValueError:
        return "yes"


class Refused(Exception):
    """A frame or body that cannot be used. `code` and `details` go to the sender, `message` says why to a developer.

    `id` is the request's, where it could be read: the answer is then a reply, else an error frame.
    `undecodable` marks bad UTF-8 and broken JSON, which count towards close code 4400.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        id: UUID | None = None,
        details: dict[str, Any] | None = None,
        *,
        undecodable: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id
        self.details = details
        self.undecodable = undecodable


class Denied(Exception):
    """A client's request was answered by a final no. `code` is an ErrorCode, or one that a later server has.

    BUSY here means that patience ended before a final answer: it may still have been done; ask again with the same id.
    UNKNOWN_ERROR means that the line is closed for good, `details.close_code` says why.
    """

    def __init__(
        self, code: str, message: str, details: dict[str, Any] | None = None, *, status: int | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details or {}
        self.status = status


def status_of(code: ErrorCode) -> int:
    """The HTTP status of `code`. Those of outside services are 502; a caller whose breaker is open answers 503."""
    return _TABLE[code][0]


def text_of(code: ErrorCode, locale: str = DEFAULT_LOCALE) -> str:
    """The sentence for people. `locale` is a language tag ("en", "en-GB"); whatever is not English reads Thai."""
    _, thai, english = _TABLE[code]
    return english if locale[:2].lower() == "en" else thai


# code: (status, Thai, English). Sentences that the requirements give are theirs word for word.
_TABLE: Final[Mapping[ErrorCode, tuple[int, str, str]]] = {
    ErrorCode.VALIDATION_ERROR: (400, "ข้อมูลไม่ถูกต้อง กรุณาตรวจสอบอีกครั้ง", "Some fields are not valid"),
    ErrorCode.INSUFFICIENT_AMOUNT: (400, "จำนวนเงินต่ำกว่าขั้นต่ำ", "The amount is below the minimum"),
    ErrorCode.REASON_REQUIRED: (400, "กรุณาระบุเหตุผล", "A reason is required"),
    ErrorCode.INVALID_COORDINATES: (400, "พิกัดไม่ถูกต้อง", "The coordinates are not valid"),
    ErrorCode.INVALID_DATE_RANGE: (400, "ช่วงวันที่ไม่ถูกต้อง", "The date range is not valid"),
    ErrorCode.INVALID_TOKEN: (400, "รหัสยืนยันไม่ถูกต้อง", "The token is not valid"),
    ErrorCode.TOKEN_EXPIRED: (400, "รหัสยืนยันหมดอายุแล้ว", "The token has expired"),
    ErrorCode.INVALID_REFERRAL_CODE: (400, "รหัสแนะนำไม่ถูกต้อง", "The referral code is not valid"),
    ErrorCode.INVALID_TRANSACTION_TYPE: (400, "ประเภทรายการไม่ถูกต้อง", "The transaction type is not valid"),
    ErrorCode.UNSUPPORTED_FILE_TYPE: (400, "ไม่รองรับไฟล์ประเภทนี้", "This type of file is not supported"),
    ErrorCode.INVALID_FILE: (400, "ไฟล์ไม่ถูกต้อง", "The file is not valid"),
    ErrorCode.AMOUNT_MISMATCH: (400, "จำนวนเงินไม่ตรงกัน", "The amounts do not match"),
    ErrorCode.SELF_BOOKING: (400, "ไม่สามารถจองบริการของตนเองได้", "You cannot book yourself"),
    ErrorCode.INVALID_SIGNATURE: (400, "ลายเซ็นไม่ถูกต้อง", "The signature is not valid"),
    ErrorCode.IDEMPOTENCY_KEY_REQUIRED: (400, "ต้องระบุ Idempotency-Key", "An Idempotency-Key is required"),
    ErrorCode.UNKNOWN_CHANNEL: (400, "ไม่รู้จักช่องทางนี้", "There is no such channel"),
    ErrorCode.BAD_FRAME: (400, "รูปแบบข้อความไม่ถูกต้อง", "The frame cannot be used"),
    ErrorCode.POSITION_REJECTED: (400, "ไม่รับตำแหน่งนี้", "The position was not taken"),
    ErrorCode.UNAUTHORIZED: (401, "กรุณาเข้าสู่ระบบ", "Please sign in"),
    ErrorCode.SESSION_EXPIRED: (401, "เซสชันหมดอายุ กรุณาเข้าสู่ระบบอีกครั้ง", "Your session has expired, please sign in again"),
    ErrorCode.FORBIDDEN: (403, "คุณไม่มีสิทธิ์ทำรายการนี้", "You may not do this"),
    ErrorCode.PROVIDER_NOT_APPROVED: (
        403,
        "บัญชียังไม่ได้รับการอนุมัติ กรุณารอ Admin ตรวจสอบ",
        "Your account is not approved yet, please wait for the review",
    ),
    ErrorCode.PROVIDER_SUSPENDED: (403, "บัญชีของคุณถูกระงับ", "Your account is suspended"),
    ErrorCode.ORIGIN_REFUSED: (403, "ไม่อนุญาตให้เชื่อมต่อจากเว็บไซต์นี้", "This origin may not connect"),
    ErrorCode.NOT_FOUND: (404, "ไม่พบข้อมูล", "Not found"),
    ErrorCode.PROVIDER_NOT_FOUND: (
        404,
        "ไม่พบข้อมูลผู้ให้บริการ กรุณาสมัครก่อน",
        "There is no such provider, please register first",
    ),
    ErrorCode.JOB_NOT_FOUND: (404, "ไม่พบงานนี้", "There is no such job"),
    ErrorCode.OFFER_NOT_FOUND: (404, "ไม่พบข้อเสนองานนี้", "There is no such offer"),
    ErrorCode.DOCUMENT_NOT_FOUND: (404, "ไม่พบเอกสาร", "There is no such document"),
    ErrorCode.VEHICLE_NOT_FOUND: (404, "ไม่พบยานพาหนะ", "There is no such vehicle"),
    ErrorCode.BANK_ACCOUNT_NOT_FOUND: (404, "ไม่พบบัญชีธนาคาร", "There is no such bank account"),
    ErrorCode.NOTIFICATION_NOT_FOUND: (404, "ไม่พบการแจ้งเตือน", "There is no such notification"),
    ErrorCode.TICKET_NOT_FOUND: (404, "ไม่พบคำร้อง", "There is no such ticket"),
    ErrorCode.SERVICE_NOT_FOUND: (404, "ไม่พบบริการ", "There is no such service"),
    ErrorCode.BOOKING_NOT_FOUND: (404, "ไม่พบการจอง", "There is no such booking"),
    ErrorCode.THREAD_NOT_FOUND: (404, "ไม่พบการสนทนา", "There is no such thread"),
    ErrorCode.INVOICE_NOT_FOUND: (404, "ไม่พบใบแจ้งหนี้", "There is no such invoice"),
    ErrorCode.PARTNER_NOT_FOUND: (404, "ไม่พบพาร์ตเนอร์", "There is no such partner"),
    ErrorCode.MEMBER_NOT_FOUND: (404, "ไม่พบสมาชิก", "There is no such member"),
    ErrorCode.USER_NOT_FOUND: (404, "ไม่พบผู้ใช้", "There is no such user"),
    ErrorCode.METHOD_NOT_ALLOWED: (405, "ไม่รองรับวิธีเรียกนี้", "This method is not allowed here"),
    ErrorCode.FILE_TOO_LARGE: (413, "ไฟล์มีขนาดใหญ่เกินไป", "The file is too large"),
    ErrorCode.BODY_TOO_LARGE: (413, "ข้อมูลที่ส่งมีขนาดใหญ่เกินไป", "The body is too large"),
    ErrorCode.RATE_LIMITED: (429, "ส่งคำขอถี่เกินไป กรุณารอสักครู่", "Too many requests, please wait a moment"),
    ErrorCode.JOB_NOT_AVAILABLE: (409, "งานนี้ถูกรับไปแล้ว", "This job is no longer available"),
    ErrorCode.EMAIL_TAKEN: (409, "อีเมลนี้ถูกใช้แล้ว", "This e-mail address is taken"),
    ErrorCode.PHONE_TAKEN: (409, "หมายเลขโทรศัพท์นี้ถูกใช้แล้ว", "This phone number is taken"),
    ErrorCode.PROVIDER_EXISTS: (409, "คุณสมัครเป็นผู้ให้บริการแล้ว", "You are already registered as a provider"),
    ErrorCode.PLATE_TAKEN: (409, "ทะเบียนรถนี้ถูกใช้แล้ว", "This plate number is taken"),
    ErrorCode.PROVIDER_UID_TAKEN: (409, "รหัสผู้ให้บริการซ้ำ", "This provider number is taken"),
    ErrorCode.CONCURRENT_MODIFICATION: (
        409,
        "ข้อมูลถูกแก้ไขจากที่อื่น กรุณาโหลดใหม่",
        "Somebody else changed this, please reload",
    ),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: (
        409,
        "Idempotency-Key นี้ถูกใช้กับคำขออื่นแล้ว",
        "This idempotency key was used for another request",
    ),
    ErrorCode.REQUEST_IN_PROGRESS: (409, "คำขอนี้กำลังดำเนินการอยู่", "This request is still running"),
    ErrorCode.SLOT_TAKEN: (409, "ช่วงเวลานี้ถูกจองแล้ว", "This slot is taken"),
    ErrorCode.ALREADY_PAID: (409, "รายการนี้ชำระเงินแล้ว", "This is already paid"),
    ErrorCode.RATING_EXISTS: (409, "คุณให้คะแนนแล้ว", "You have already rated this"),
    ErrorCode.TIP_EXISTS: (409, "คุณให้ทิปแล้ว", "You have already tipped"),
    ErrorCode.DUPLICATE_MEMBER: (409, "สมาชิกนี้มีอยู่แล้ว", "This member exists already"),
    ErrorCode.ALREADY_REVERSED: (409, "รายการนี้ถูกยกเลิกไปแล้ว", "This was already reversed"),
    ErrorCode.INSUFFICIENT_BALANCE: (
        422,
        "ยอดเงินในกระเป๋าไม่เพียงพอสำหรับการถอน",
        "The balance is too low for this withdrawal",
    ),
    ErrorCode.INSUFFICIENT_CREDITS: (422, "เครดิตไม่เพียงพอ", "There are not enough credits"),
    ErrorCode.PROVIDER_HAS_ACTIVE_JOB: (422, "คุณมีงานที่กำลังทำอยู่แล้ว", "You already have an active job"),
    ErrorCode.DOCUMENT_ALREADY_VERIFIED: (422, "เอกสารนี้ตรวจสอบแล้ว", "This document is already verified"),
    ErrorCode.INVALID_STATUS_TRANSITION: (422, "ไม่สามารถเปลี่ยนสถานะนี้ได้", "This change of status is not possible"),
    ErrorCode.PROVIDER_OFFLINE: (422, "กรุณาเปิดรับงานก่อน", "Please go online first"),
    ErrorCode.LOCATION_REQUIRED: (422, "ต้องระบุตำแหน่ง", "A position is required"),
    ErrorCode.SERVICE_TYPE_MISMATCH: (422, "ประเภทบริการไม่ตรงกัน", "This is not one of your service types"),
    ErrorCode.VEHICLE_REQUIRED: (422, "ต้องมียานพาหนะ", "A vehicle is required"),
    ErrorCode.VEHICLE_NOT_APPROVED: (422, "ยานพาหนะยังไม่ได้รับการอนุมัติ", "The vehicle is not approved"),
    ErrorCode.JOB_NOT_ACTIVE: (422, "งานนี้ไม่ได้กำลังดำเนินการ", "This job is not active"),
    ErrorCode.JOB_NOT_COMPLETED: (422, "งานนี้ยังไม่เสร็จ", "This job is not completed"),
    ErrorCode.TOO_LATE: (422, "หมดเวลาทำรายการนี้แล้ว", "It is too late for this"),
    ErrorCode.DOCUMENTS_INCOMPLETE: (422, "เอกสารยังไม่ครบ", "Documents are missing"),
    ErrorCode.EMAIL_NOT_VERIFIED: (422, "ยังไม่ได้ยืนยันอีเมล", "The e-mail address is not verified"),
    ErrorCode.BANK_ACCOUNT_NOT_VERIFIED: (422, "บัญชีธนาคารยังไม่ได้รับการยืนยัน", "The bank account is not verified"),
    ErrorCode.BOOKING_NOT_PAYABLE: (422, "การจองนี้ยังชำระเงินไม่ได้", "This booking cannot be paid"),
    ErrorCode.MEMBER_INACTIVE: (422, "สมาชิกไม่ได้ใช้งาน", "The member is not active"),
    ErrorCode.PROGRAM_STARTED: (422, "โปรแกรมเริ่มแล้ว", "The program has started"),
    ErrorCode.DEBT_LIMIT: (422, "ยอดค้างชำระเกินกำหนด", "The debt limit is reached"),
    ErrorCode.OUTSIDE_MARKET: (422, "อยู่นอกพื้นที่ให้บริการ", "This place is outside our service area"),
    ErrorCode.CLOCK_SKEW: (422, "นาฬิกาของอุปกรณ์ไม่ตรง", "The clock of the device is wrong"),
    ErrorCode.INTERNAL_ERROR: (500, "เกิดข้อผิดพลาดภายในระบบ", "Something went wrong on our side"),
    ErrorCode.LEDGER_BAD_LEG: (500, "เกิดข้อผิดพลาดภายในระบบบัญชี", "Something went wrong in our books"),
    ErrorCode.UNKNOWN_ERROR: (500, "เกิดข้อผิดพลาด กรุณาลองใหม่อีกครั้ง", "Something went wrong, please try again"),
    ErrorCode.PAYMENT_GATEWAY_ERROR: (502, "ระบบชำระเงินขัดข้อง", "The payment service failed"),
    ErrorCode.EMAIL_UNAVAILABLE: (502, "ส่งอีเมลไม่ได้ในขณะนี้", "E-mail cannot be sent now"),
    ErrorCode.SMS_UNAVAILABLE: (502, "ส่ง SMS ไม่ได้ในขณะนี้", "SMS cannot be sent now"),
    ErrorCode.PUSH_UNAVAILABLE: (502, "ส่งการแจ้งเตือนไม่ได้ในขณะนี้", "Push messages cannot be sent now"),
    ErrorCode.STORAGE_UNAVAILABLE: (502, "ที่เก็บไฟล์ขัดข้อง", "File storage failed"),
    ErrorCode.OVERLOADED: (503, "ระบบมีผู้ใช้งานมาก กรุณาลองใหม่", "The service is overloaded, please try again"),
    ErrorCode.BUSY: (503, "ยังไม่ทราบผล กรุณาลองใหม่อีกครั้ง", "There is no answer yet, please ask again"),
}
