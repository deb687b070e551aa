"""The AsyncAPI 3.0 document of the socket, out of the frames themselves."""

import inspect
from typing import Any, Final, get_args

import msgspec

from protocol import frames, resources
from protocol.errors import ByeReason, CloseCode, ErrorCode, WhyRejected, WithdrawnReason, text_of
from protocol.frames import FRAME_BYTES_MAX, HELLO_WITHIN_S, SUBPROTOCOL, ClientFrame, ServerFrame
from protocol.lifecycle import LEGAL
from protocol.resources.money import Earning, Wallet
from protocol.resources.notices import Notification
from protocol.resources.wallets import Withdrawal
from protocol.schemas import REF, components

EVENTS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "offer.created": ("A job is offered to this provider. The data is the Offer.", {"": "Offer"}),
    "offer.withdrawn": (
        f"The offer is over. `reason`: {', '.join(WithdrawnReason)}.",
        {"offer_id": "uuid", "job_id": "uuid", "reason": "string"},
    ),
    "job.created": ("The customer's job exists.", {"job": "Job"}),
    "job.accepted": ("A provider has taken the customer's job.", {"job": "Job", "provider": "ProviderCard"}),
    "job.updated": ("A change of status, round or version, to both parties.", {"job": "Job"}),
    "job.cancelled": (
        "The job is over, or taken from this provider.",
        {"job": "Job", "by": "string", "reason": "string"},
    ),
    "job.completed": ("The job is done; its fare is final.", {"job": "Job"}),
    "provider.updated": ("The own provider record changed.", {"provider": "Provider"}),
    "earnings.created": ("Something was earned, or corrected.", {"earning": "Earning"}),
    "wallet.updated": ("What is in the own wallet now, in one currency.", {"wallet": "Wallet"}),
    "withdrawal.updated": ("An own withdrawal was asked for, or has come further.", {"withdrawal": "Withdrawal"}),
    "notification.created": (
        "Something is told; it also stands in the notification centre.",
        {"notification": "Notification"},
    ),
}
"""Event name → (meaning, fields of `data`; the empty name stands for the whole of it)."""

_CLOSE_MEANING: Final = {
    CloseCode.GOING_AWAY: "the server goes away",
    CloseCode.RESTART: "the server restarts",
    CloseCode.MESSAGE_TOO_BIG: "frame too large",
    CloseCode.FRAME_TOO_LARGE: "frame too large",
    CloseCode.NOT_OUR_PROTOCOL: "a binary frame, five undecodable frames in 10 s, or no subprotocol",
    CloseCode.UNAUTHENTICATED: "token or ticket missing, bad or expired",
    CloseCode.BLOCKED: "the user is blocked",
    CloseCode.UNRESPONSIVE: "reads too slowly, no hello in time, or pings unanswered",
    CloseCode.REPLACED: "the same device came back with a higher attempt, or this one has an older attempt",
    CloseCode.OTHER_DEVICE: "another device of this user took over",
    CloseCode.FLOODING: "far over the rate limit",
}
_RECONNECT: Final = {
    "yes": "yes: after `bye.reconnect_after_ms` plus jitter",
    "no": "no",
    "new_token": "yes, with a new token",
    "user": "only when the user asks for it",
}


def asyncapi(version: str) -> dict[str, Any]:
    """The document, ready for JSON. `version` is the server's."""
    inbound, outbound = get_args(ClientFrame), get_args(ServerFrame)
    told = (Notification, Earning, Wallet, Withdrawal)
    events = (resources.Offer, resources.Job, resources.ProviderCard, resources.Provider, *told)
    messages = {shape.__name__: _message(shape) for shape in (*inbound, *outbound)}
    for name, (meaning, fields) in EVENTS.items():
        messages[name] = _event_message(name, meaning, fields)
    messages[frames.Snapshot.__name__]["payload"] = _narrowed(
        frames.Snapshot,
        {
            "provider": _field("Provider"),
            "jobs": {"type": "array", "items": _field("Job")},
            "offers": {"type": "array", "items": _field("Offer")},
        },
    )
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Dispatch socket", "version": version, "description": _description()},
        "defaultContentType": "application/json",
        "servers": {
            "this": {
                "host": "localhost:8080",
                "protocol": "ws",
                "protocolVersion": "13",
                "description": f"Subprotocol `{SUBPROTOCOL}`; wss behind a proxy that ends TLS.",
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            "socket": {
                "address": "/v1/socket",
                "title": "One socket per device",
                "servers": [{"$ref": "#/servers/this"}],
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": {
                            "type": "object",
                            "properties": {"ticket": {"type": "string", "description": "for browsers, one use"}},
                        },
                        "bindingVersion": "0.1.0",
                    }
                },
            }
        },
        # AsyncAPI speaks from the application's side, which here is the server.
        "operations": {
            "receive": _operation("receive", "What a client sends", [shape.__name__ for shape in inbound]),
            "send": _operation("send", "What the server sends", [*(shape.__name__ for shape in outbound), *EVENTS]),
        },
        "components": {
            "messages": messages,
            "schemas": components((*inbound, *outbound, *events)),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "x-error-codes": {code.value: text_of(code, "en") for code in ErrorCode},
        "x-close-codes": {
            str(code.value): {"why": _CLOSE_MEANING[code], "reconnect": _RECONNECT[code.reconnect]}
            for code in CloseCode
        },
        "x-job-lifecycle": [
            {"from": start.value, "to": end.value, "by": sorted(actor.value for actor in actors)}
            for (start, end), actors in LEGAL.items()
        ],
    }


def _message(shape: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": str(shape.__struct_config__.tag),
        "title": shape.__name__,
        "summary": inspect.getdoc(shape),
        "payload": {"$ref": REF.format(name=shape.__name__)},
    }


def _event_message(name: str, meaning: str, fields: dict[str, str]) -> dict[str, Any]:
    if "" in fields:
        data = _field(fields[""])
    else:
        data = {"type": "object", "properties": {field: _field(kind) for field, kind in fields.items()}}
        data["required"] = list(fields)
    payload = _narrowed(frames.Event, {"name": {"const": name}, "data": data})
    return {"name": "event", "title": name, "summary": meaning, "payload": payload}


def _narrowed(shape: type[msgspec.Struct], properties: dict[str, Any]) -> dict[str, Any]:
    """`shape` with what its Python types leave open."""
    return {"allOf": [{"$ref": REF.format(name=shape.__name__)}, {"type": "object", "properties": properties}]}


def _field(kind: str) -> dict[str, Any]:
    if kind == "uuid":
        return {"type": "string", "format": "uuid"}
    return {"type": "string"} if kind == "string" else {"$ref": REF.format(name=kind)}


def _operation(action: str, title: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "title": title,
        "channel": {"$ref": "#/channels/socket"},
        "messages": [{"$ref": f"#/channels/socket/messages/{name}"} for name in names],
    }


def _description() -> str:
    closes = "\n".join(
        f"| {code.value} | {_CLOSE_MEANING[code]} | {_RECONNECT[code.reconnect]} |" for code in CloseCode
    )
    return (
        f"Text frames, one JSON object each, `type` first, at most {FRAME_BYTES_MAX // 1024} KiB in. `hello` comes first, "
        f"within {HELLO_WITHIN_S:.0f} s. Events are numbered per user without gaps, repeated until acked, and resumed at "
        "(epoch, seq). A request is sent again with the same `id` until its answer is final; `BUSY` is not. "
        f"Positions that are not taken: `POSITION_REJECTED` with `why` {', '.join(WhyRejected)}, or `CLOCK_SKEW`. "
        f"`bye.reason`: {', '.join(ByeReason)}.\n\n"
        f"| close code | why | reconnect |\n|---|---|---|\n{closes}\n"
    )
