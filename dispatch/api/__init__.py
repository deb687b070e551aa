"""HTTP mechanics: routes as data, bodies decoded, refusals as the wire wants them. Knows protocol and kit, nothing of dispatch."""

from dispatch.api.door import Api, ApiRules
from dispatch.kit.route import Answered, Call, Route

__all__ = ["Answered", "Api", "ApiRules", "Call", "Route"]
