"""Where a request came from, when proxies of ours stand in front."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

_HEADER_MAX = 1000
_HOPS_MAX = 20


class Proxies:
    """The networks whose word about the caller's address is taken. None: the connection's own address counts, whatever a header says."""

    def __init__(self, networks: Sequence[str]) -> None:
        """Raises ValueError for what is no network."""
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(one) for one in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    def address_of(self, remote: str, forwarded_for: str) -> str:
        """The last hop of X-Forwarded-For that is not a proxy of ours: what stands before it, anybody could have written."""
        if not self.trusts(remote) or len(forwarded_for) > _HEADER_MAX:
            return remote
        found = remote
        for hop in reversed(forwarded_for.split(",")[-_HOPS_MAX:]):
            try:
                found = str(ip_address(hop.strip()))
            except ValueError:
                return found
            if not self.trusts(found):
                return found
        return found
