"""Why an identity was not taken."""

from dispatch.kit.errors import Overloaded


class TicketsUnavailable(Overloaded):
    """Redis is away: no ticket can be sold or redeemed. Tickets fail closed."""
