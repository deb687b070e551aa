"""The frames of the socket as msgspec Structs, tagged by `type`. Ranges stand in the types.

Unknown fields are ignored: an old server meets a new app. Optional fields without a value are absent on the wire.
Coordinates are WGS84 degrees, `at` an aware datetime, `_m` metres, `_s` seconds. Structs that hold only scalars are
hidden from the cycle collector (gc=False): they cannot be part of a cycle.
"""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta, Struct

from protocol.errors import ErrorCode
from protocol.lifecycle import ServiceType, Stage

SUBPROTOCOL: Final = "dispatch.v1"
FRAME_BYTES_MAX: Final = 16 * 1024
DEPTH_MAX: Final = 8
HELLO_WITHIN_S: Final = 10.0
POINTS_MAX: Final = 60
INT_MAX: Final = 2**53
"""The largest integer that every JSON reader keeps exact."""

Lat = Annotated[float, Meta(ge=-90, le=90, description="degrees north, WGS84")]
Lng = Annotated[float, Meta(ge=-180, le=180, description="degrees east, WGS84")]
At = Annotated[datetime, Meta(tz=True, description="RFC 3339; ours are UTC with milliseconds")]
Count = Annotated[int, Meta(ge=0, le=INT_MAX)]
Metres = Annotated[float, Meta(ge=0, le=40_100_000)]
Seconds = Annotated[float, Meta(ge=0, le=31_622_400)]
Heading = Annotated[float, Meta(ge=0, le=360, description="degrees clockwise from true north")]
Reason = Annotated[str, Meta(max_length=500)]
ServiceTypes = Annotated[list[ServiceType], Meta(min_length=1, max_length=5)]


class ResumeFrom(Struct, frozen=True, gc=False):
    """The last event that this device has applied, and the history it belongs to."""

    epoch: Annotated[str, Meta(max_length=64)]
    seq: Count


class AppInfo(Struct, frozen=True, gc=False):
    name: Annotated[str, Meta(max_length=64)]
    version: Annotated[str, Meta(max_length=64)]


class Fix(Struct, frozen=True, gc=False, omit_defaults=True):
    """One position of the phone, stamped by the phone."""

    lat: Lat
    lng: Lng
    at: At
    accuracy_m: Metres | None = None
    heading_deg: Heading | None = None
    speed_mps: Annotated[float, Meta(ge=0, le=10_000)] | None = None


# --- client to server


class Hello(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="hello"):
    """First frame. `device` is stable per install; `attempt` grows by one with each try of that device."""

    device: Annotated[str, Meta(min_length=1, max_length=128)]
    attempt: Count
    resume: ResumeFrom | None = None
    app: AppInfo | None = None


class Auth(Struct, frozen=True, gc=False, tag_field="type", tag="auth"):
    """A fresh token of the same user: the socket lives on until that one expires."""

    id: UUID
    token: Annotated[str, Meta(min_length=1, max_length=8192)]


class Online(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="online"):
    """Ready for offers, here. Counts as a fix. `service_types` narrows the provider's own; absent: all of them."""

    id: UUID
    lat: Lat
    lng: Lng
    service_types: ServiceTypes | None = None


class Offline(Struct, frozen=True, gc=False, tag_field="type", tag="offline"):
    """No offers any more. Always allowed; an active job goes on."""

    id: UUID


class Location(Fix, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="location"):
    """Where the phone is now. Never answered, unless it cannot be used."""


class Locations(Struct, frozen=True, tag_field="type", tag="locations"):
    """Fixes that were buffered without a line, for the trail of the active job; the newest counts as position."""

    points: Annotated[list[Fix], Meta(max_length=POINTS_MAX)]


class Accept(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="accept"):
    """Take a job. Without `offer_id`: from the open board. Sent again with the same `id` until a final answer."""

    id: UUID
    job_id: UUID
    offer_id: UUID | None = None
    round: Count | None = None


class Decline(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="decline"):
    """Not this job. It is not offered to this provider again."""

    id: UUID
    offer_id: UUID
    reason: Reason | None = None


class Advance(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="advance"):
    """The next status of the own job. The two measures are the phone's and come with `completed`."""

    id: UUID
    job_id: UUID
    to: Stage
    distance_m: Metres | None = None
    duration_s: Seconds | None = None


class Cancel(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="cancel"):
    """End the job. A provider has to give a reason."""

    id: UUID
    job_id: UUID
    reason: Reason | None = None


class Track(Struct, frozen=True, gc=False, tag_field="type", tag="track"):
    """Ask for the positions of an active job, on this socket only. Not resumed."""

    id: UUID
    job_id: UUID


class Untrack(Struct, frozen=True, gc=False, tag_field="type", tag="untrack"):
    """No more positions of this job."""

    id: UUID
    job_id: UUID


class Ack(Struct, frozen=True, gc=False, tag_field="type", tag="ack"):
    """All events up to `seq` are safely with this device."""

    seq: Count


Request = Auth | Online | Offline | Accept | Decline | Advance | Cancel | Track | Untrack
"""The frames with an `id`: each is answered by exactly one final reply."""

ClientFrame = (
    Hello | Auth | Online | Offline | Location | Locations | Accept | Decline | Advance | Cancel | Track | Untrack | Ack
)


# --- server to client


class ErrorObject(Struct, frozen=True, omit_defaults=True):
    """`code` is an ErrorCode; a client of an older version may meet one that it does not know, hence str."""

    code: str
    message: str
    details: dict[str, Any] | None = None

    @property
    def retry_after_ms(self) -> int | None:
        """How long to wait before the same request is asked again, or None when this answer is final."""
        if self.code not in (ErrorCode.BUSY, ErrorCode.RATE_LIMITED, ErrorCode.REQUEST_IN_PROGRESS):
            return None
        wait = (self.details or {}).get("retry_after_ms")
        return int(wait) if isinstance(wait, int | float) and wait >= 0 else 1000


class Welcome(Struct, frozen=True, gc=False, tag_field="type", tag="welcome"):
    """`seq` is the user's newest event. `resumed`: the missed events follow; else a snapshot follows."""

    session: str
    epoch: str
    seq: int
    resumed: bool
    heartbeat_s: float
    server_time_at: At
    token_expires_at: At


class Snapshot(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="snapshot"):
    """The whole live state of the user as of `seq`."""

    epoch: str
    seq: int
    jobs: list[dict[str, Any]]
    offers: list[dict[str, Any]]
    provider: dict[str, Any] | None = None


class Event(Struct, frozen=True, tag_field="type", tag="event"):
    """A reliable event: numbered per user from 1 without gaps."""

    seq: int
    name: str
    at: At
    data: dict[str, Any]


class Position(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="location"):
    """Where the provider of a tracked job is. Lossy, newest wins."""

    job_id: UUID
    lat: float
    lng: float
    at: At
    heading_deg: float | None = None
    eta_s: float | None = None
    stale: bool = False


class Reply(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="reply"):
    """The answer to one request: `data` if ok, else `error`."""

    id: UUID
    ok: bool
    data: dict[str, Any] | None = None
    error: ErrorObject | None = None


class ErrorFrame(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="error"):
    """A frame could not be used; the socket stays open."""

    error: ErrorObject
    id: UUID | None = None


class Bye(Struct, frozen=True, gc=False, tag_field="type", tag="bye"):
    """The server closes next. `reason` is a ByeReason."""

    reason: str
    reconnect_after_ms: int


ServerFrame = Welcome | Snapshot | Event | Position | Reply | ErrorFrame | Bye
