"""Who may ask for what, declared a second time and by hand: a route or a frame that is not here fails the build.

Code says it too (`Route.who`, and the use cases); the two must agree, so that neither a forgotten line nor a slip of the pen opens a door.
"""

from dataclasses import dataclass
from typing import Final

from protocol.frames import (
    Accept,
    Ack,
    Advance,
    Auth,
    Cancel,
    Decline,
    Hello,
    Location,
    Locations,
    Offline,
    Online,
    Track,
    Untrack,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """`who`: as in Route.who. `names`: the kind of thing that {id} in the path names, whose owner (or an admin) alone may ask."""

    who: str
    names: str | None


# anyone: no token · user: one's own things, by any token · customer, admin: that role. What {id} names comes last.
_ROUTES: Final = """
GET /v1/me                                    user      -
PATCH /v1/me                                  user      -
POST /v1/socket/tickets                       user      -
POST /v1/auth/sign-up                         anyone    -
POST /v1/auth/sign-in                         anyone    -
POST /v1/auth/refresh                         anyone    -
POST /v1/auth/sign-out                        anyone    -
POST /v1/auth/sign-out-everywhere             user      -
GET /v1/auth/email/verify                     anyone    -
POST /v1/auth/email/verify                    anyone    -
POST /v1/auth/email/resend                    anyone    -
GET /v1/auth/email/status                     anyone    -
POST /v1/auth/password/forgot                 anyone    -
GET /v1/auth/password/reset                   anyone    -
POST /v1/auth/password/reset                  anyone    -
POST /v1/auth/phone/code                      user      -
POST /v1/auth/phone/verify                    user      -
GET /v1/jobs/available                        user      -
PUT /v1/providers/me/online                   user      -
POST /v1/quotes                               customer  -
POST /v1/jobs                                 customer  -
GET /v1/jobs                                  user      -
GET /v1/jobs/{id}                             user      job
POST /v1/jobs/{id}/cancel                     user      job
POST /v1/jobs/{id}/advance                    user      job
GET /v1/admin/jobs                            admin     -
POST /v1/admin/jobs/{id}/release              admin     job
GET /v1/admin/jobs/{id}/why                   admin     job
GET /v1/providers/me/jobs/{id}/why            user      job
POST /v1/jobs/{id}/accept                     user      job
POST /v1/providers                            user      -
GET /v1/providers/me                          user      -
PATCH /v1/providers/me                        user      -
POST /v1/providers/me/reapply                 user      -
POST /v1/providers/me/documents               user      -
GET /v1/providers/me/documents                user      -
GET /v1/providers/me/documents/{id}/link      user      document
GET /v1/admin/providers/{id}/documents        admin     provider
GET /v1/admin/documents/{id}/link             admin     document
GET /v1/files/{token}                         anyone    -
POST /v1/providers/me/vehicles                user      -
GET /v1/providers/me/vehicles                 user      -
PATCH /v1/providers/me/vehicles/{id}          user      vehicle
POST /v1/providers/me/vehicles/{id}/activate  user      vehicle
GET /v1/providers/me/onboarding               user      -
GET /v1/admin/verification                    admin     -
POST /v1/admin/documents/{id}/review          admin     document
POST /v1/admin/vehicles/{id}/review           admin     vehicle
GET /v1/notifications                         user      -
GET /v1/notifications/unread_count            user      -
POST /v1/notifications/{id}/read              user      notification
POST /v1/notifications/read-all               user      -
POST /v1/devices                              user      -
GET /v1/devices                               user      -
DELETE /v1/devices/{id}                       user      device
GET /v1/admin/deliveries                      admin     -
POST /v1/admin/deliveries/{id}/requeue        admin     delivery
POST /v1/support/tickets                      user      -
GET /v1/support/tickets                       user      -
GET /v1/support/tickets/{id}                  user      ticket
POST /v1/support/tickets/{id}/replies         user      ticket
GET /v1/admin/tickets                         admin     -
POST /v1/admin/tickets/{id}/replies           admin     ticket
POST /v1/admin/tickets/{id}/status            admin     ticket
POST /v1/earnings/calculate                   user      -
GET /v1/providers/me/earnings                 user      -
GET /v1/providers/me/earnings/chart           user      -
GET /v1/providers/me/earnings/items           user      -
GET /v1/admin/providers/{id}/earnings         admin     provider
GET /v1/admin/providers/{id}/earnings/items   admin     provider
POST /v1/jobs/{id}/tip                        user      job
POST /v1/admin/providers/{id}/adjustments     admin     provider
POST /v1/admin/earnings/{id}/reverse          admin     earning
GET /v1/incentives                            user      -
GET /v1/admin/incentives                      admin     -
POST /v1/admin/incentives                     admin     -
PATCH /v1/admin/incentives/{id}               admin     incentive
GET /v1/wallet                                user      -
GET /v1/wallet/entries                        user      -
POST /v1/providers/me/bank-accounts           user      -
GET /v1/providers/me/bank-accounts            user      -
DELETE /v1/providers/me/bank-accounts/{id}    user      bank_account
GET /v1/admin/providers/{id}/bank-accounts    admin     provider
POST /v1/withdrawals                          user      -
GET /v1/withdrawals                           user      -
GET /v1/withdrawals/{id}                      user      withdrawal
GET /v1/admin/withdrawals                     admin     -
GET /v1/admin/withdrawals/{id}                admin     withdrawal
POST /v1/admin/withdrawals/{id}/actions       admin     withdrawal
POST /v1/admin/providers/{id}/actions         admin     provider
GET /v1/admin/providers                       admin     -
GET /v1/admin/providers/{id}                  admin     provider
GET /v1/admin/analytics                       admin     -
GET /v1/admin/users                           admin     -
GET /v1/admin/users/{id}                      admin     user
PUT /v1/admin/users/{id}/roles                admin     user
POST /v1/admin/users/{id}/block               admin     user
POST /v1/admin/users/{id}/unblock             admin     user
GET /v1/admin/health                          admin     -
GET /v1/admin/statistics                      admin     -
GET /v1/admin/audit                           admin     -
POST /v1/jobs/{id}/rating                     user      job
GET /v1/providers/me/reviews                  user      -
GET /v1/admin/providers/{id}/reviews          admin     provider
GET /v1/providers/me/performance              user      -
GET /v1/providers/me/dashboard                user      -
GET /v1/admin/providers/{id}/performance      admin     provider
GET /v1/admin/performance                     admin     -
GET /v1/admin/acceptance                      admin     -
"""


def routes() -> dict[str, Policy]:
    """ "METHOD /path" → its policy."""
    found = {}
    for line in _ROUTES.strip().splitlines():
        method, path, who, names = line.split()
        found[f"{method} {path}"] = Policy(who, None if names == "-" else names)
    return found


OPEN: Final = {
    "/healthz", "/readyz", "/openapi.json", "/asyncapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css",
    "/docs/index.css", "/docs/favicon-32x32.png",
}  # fmt: skip
"""Beside the table of routes: for anybody, and nobody's data."""
GUARDED: Final = {"/metrics": "loopback or the operator's token", "/v1/socket": "token or ticket, at the handshake"}


@dataclass(frozen=True, slots=True)
class FramePolicy:
    """Who may send a frame, by what he is. `names`: its fields that name a thing, and the kind of it.

    `provider`: needs a provider record. `admin_may`: an admin may act on a stranger's thing by it, as over HTTP.
    """

    provider: bool = False
    names: tuple[tuple[str, str], ...] = ()
    admin_may: bool = False


FRAMES: Final[dict[type, FramePolicy]] = {
    Hello: FramePolicy(),  # the token of the handshake says who; `resume` names events of nobody else's
    Auth: FramePolicy(),  # the token in it must be the same user's
    Online: FramePolicy(provider=True),
    Offline: FramePolicy(provider=True),
    Location: FramePolicy(provider=True),
    Locations: FramePolicy(provider=True),
    Accept: FramePolicy(provider=True, names=(("job_id", "job"), ("offer_id", "offer"))),
    Decline: FramePolicy(provider=True, names=(("offer_id", "offer"),)),
    Advance: FramePolicy(names=(("job_id", "job"),)),
    Cancel: FramePolicy(names=(("job_id", "job"),), admin_may=True),
    Track: FramePolicy(names=(("job_id", "job"),)),
    Untrack: FramePolicy(names=(("job_id", "job"),)),  # forgets what this socket asked for, and nobody else's
    Ack: FramePolicy(),  # his own events, by number
}
