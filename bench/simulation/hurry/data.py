"""One data set: strings, hashes, sorted sets, geo sets, streams; and the commands on them that the server sends."""

import copy
import math
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

_EARTH_M = 6372797.560856
"""Redis' own radius of the Earth."""


def told(value: Any) -> bytes:
    """An argument as redis-py encodes it."""
    if isinstance(value, bytes):
        return value
    return (repr(value) if isinstance(value, float) else str(value)).encode()


def metres(lng1: float, lat1: float, lng2: float, lat2: float) -> float:
    """Haversine as GEOSEARCH has it."""
    lat1r, lat2r = math.radians(lat1), math.radians(lat2)
    u, v = math.sin((lat2r - lat1r) / 2), math.sin(math.radians(lng2 - lng1) / 2)
    return 2 * _EARTH_M * math.asin(math.sqrt(u * u + math.cos(lat1r) * math.cos(lat2r) * v * v))


class Data:
    """What a server holds. `clock_ms` is Redis' own clock, which may be anything."""

    def __init__(self, clock_ms: Callable[[], float], publish: Callable[[str, bytes], int]) -> None:
        self.clock_ms = clock_ms
        self.publish = publish
        self.keys: dict[str, Any] = {}
        self.lapse_ms: dict[str, float] = {}

    def kept(self) -> tuple[dict[str, Any], dict[str, float]]:
        """A copy, as a backup would be."""
        return copy.deepcopy(self.keys), dict(self.lapse_ms)

    def restore(self, backup: tuple[dict[str, Any], dict[str, float]]) -> None:
        self.keys, self.lapse_ms = copy.deepcopy(backup[0]), dict(backup[1])

    def flush(self) -> None:
        self.keys, self.lapse_ms = {}, {}

    # --- keys

    def find(self, key: str) -> Any:
        lapse = self.lapse_ms.get(key)
        if lapse is not None and lapse <= self.clock_ms():
            self.delete(key)
        return self.keys.get(key)

    def delete(self, *names: str) -> int:
        gone = 0
        for name in names:
            gone += self.keys.pop(name, None) is not None
            self.lapse_ms.pop(name, None)
        return gone

    def expire(self, key: str, seconds: float) -> None:
        if self.find(key) is not None:
            self.lapse_ms[key] = self.clock_ms() + seconds * 1000

    def left_ms(self, key: str) -> float:
        """Of a key that there is; -1: it does not lapse."""
        lapse = self.lapse_ms.get(key)
        return -1 if lapse is None else lapse - self.clock_ms()

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self.find(key)
        return found

    def set(self, key: str, value: Any, *, px: int | None = None, nx: bool = False) -> bool | None:
        if nx and self.find(key) is not None:
            return None
        self.keys[key] = told(value)
        self.lapse_ms.pop(key, None)
        if px is not None:
            self.lapse_ms[key] = self.clock_ms() + px
        return True

    def table(self, key: str) -> dict[Any, Any]:
        """A hash or sorted set, for reading; an empty one where there is none."""
        found: dict[Any, Any] | None = self.find(key)
        return {} if found is None else found

    def hset(self, key: str, *pairs: Any) -> int:
        into = self.keys.setdefault(key, {}) if self.find(key) is None else self.keys[key]
        before = len(into)
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            into[told(name)] = told(value)
        return len(into) - before

    def remove(self, key: str, *members: Any) -> int:
        """HDEL and ZREM: an emptied key is gone."""
        into = self.find(key)
        if into is None:
            return 0
        gone = sum(into.pop(told(member), None) is not None for member in members)
        if not into:
            self.delete(key)
        return gone

    def zadd(self, key: str, *words: Any) -> int:
        only_known, changed = "XX" in words[:1], words[1:2] == ("CH",)
        scores = [(told(m), float(s)) for s, m in _chunks(words[only_known + changed :], 2)]
        before = dict(self.table(key))
        added = self._add(key, scores, only_known)
        after = self.table(key)
        return sum(after.get(m) != before.get(m) for m in dict(scores)) if changed else added

    def geoadd(self, key: str, *words: Any) -> int:
        only_known = bool(words) and words[0] == "XX"
        places = [(told(m), (float(lng), float(lat))) for lng, lat, m in _chunks(words[only_known:], 3)]
        return self._add(key, places, only_known)

    def _add(self, key: str, pairs: list[tuple[bytes, Any]], only_known: bool) -> int:
        known = self.table(key)
        pairs = [(member, value) for member, value in pairs if not only_known or member in known]
        if not pairs:
            return 0
        into = self.keys.setdefault(key, {})
        before = len(into)
        into.update(pairs)
        return len(into) - before

    def within(self, key: str, lng: float, lat: float, radius_m: float) -> list[tuple[bytes, float]]:
        """GEOSEARCH … ASC WITHDIST: (member, metres with four places)."""
        found = [(member, metres(lng, lat, *place)) for member, place in self.table(key).items()]
        found = [(member, round(away, 4)) for member, away in found if away <= radius_m]
        return sorted(found, key=lambda one: one[1])

    # --- commands

    def run(self, words: tuple[Any, ...]) -> Any:
        """One command but FCALL and FUNCTION. Raises ResponseError for one that has no model."""
        name, args = words[0], words[1:]
        match name:
            case "PING":
                return True
            case "GET":
                return self.get(args[0])
            case "SET" if len(args) == 2:
                return self.set(args[0], args[1])
            case "SET" if args[2:] == ("NX",):
                return self.set(args[0], args[1], nx=True)
            case "SET" if args[2:3] == ("PX",):
                return self.set(args[0], args[1], px=int(args[3]))
            case "DEL":
                return self.delete(*args)
            case "HSET":
                return self.hset(*args)
            case "ZADD":
                return self.zadd(*args)
            case "GEOADD":
                return self.geoadd(*args)
            case "ZREM":
                return self.remove(*args)
            case "ZMSCORE":
                return [self.table(args[0]).get(told(member)) for member in args[1:]]
            case "GEOPOS":
                return [self.table(args[0]).get(told(member)) for member in args[1:]]
            case "SPUBLISH":
                return self.publish(args[0], told(args[1]))
        raise ResponseError(f"no model of the command {name} {args[:2]}")


def _chunks(words: tuple[Any, ...], size: int) -> list[tuple[Any, ...]]:
    return [tuple(words[at : at + size]) for at in range(0, len(words), size)]
