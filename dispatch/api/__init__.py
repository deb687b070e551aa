"""HTTP mechanics: routes as data, bodies decoded, refusals as the wire wants them. Knows protocol and kit, nothing of dispatch."""

from dispatch.api.door import Api, ApiRules
from dispatch.api.strangers import NEXT_REQUEST_WITHIN_S, SWEEP_EVERY_S
from dispatch.kit.route import Answered, Call, Route

__all__ = ["NEXT_REQUEST_WITHIN_S", "SWEEP_EVERY_S", "Answered", "Api", "ApiRules", "Call", "Route"]
