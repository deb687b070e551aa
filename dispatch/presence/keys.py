"""Redis keys of presence. Every key of a market carries its tag, so one function touches one slot."""


def free(market: str, service_type: str) -> str:
    """Geo set: free, online providers of one service type. Written per tick by their workers."""
    return f"{{{market}}}:geo:{service_type}"


def seen(market: str) -> str:
    """Sorted set provider → ms of the last fix."""
    return f"{{{market}}}:seen"


def reserved(market: str) -> str:
    """Sorted set provider → ms until which an offer (or one in the making) holds him."""
    return f"{{{market}}}:reserved"


def search(market: str, name: str) -> str:
    """String: whom a search holds until when, so that it can be asked again or undone. TTL as the hold."""
    return f"{{{market}}}:search:{name}"


def radii(market: str) -> str:
    """Hash provider → service radius in metres."""
    return f"{{{market}}}:radii"


def owners(market: str) -> str:
    """Hash provider → connection that listed him: only that one may take him off."""
    return f"{{{market}}}:pres"


EPOCH = "sys:epoch"
"""String: a random word per data set. Absent or changed: Redis lost its data, workers list their providers again."""
