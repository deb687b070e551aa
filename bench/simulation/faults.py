"""Faults by name, and what each has met. A fault counts only by its effect on somebody."""

from bench.faults.history import Fault


class Weather:
    """The faults that are under way. Whoever is hit by one says so with `met`."""

    def __init__(self) -> None:
        self.all: list[Fault] = []
        self._now: dict[str, list[Fault]] = {}

    def begin(self, at: int, kind: str, target: str = "", until: int = 0) -> Fault:
        fault = Fault(at=at, until=until, kind=kind, target=target)
        self.all.append(fault)
        self._now.setdefault(kind, []).append(fault)
        return fault

    def end(self, fault: Fault, at: int) -> None:
        fault.until = at
        known = self._now.get(fault.kind, [])
        if fault in known:
            known.remove(fault)

    def on(self, kind: str, target: str = "") -> Fault | None:
        """The fault of this kind that is under way, if any; with a target, the one on it or on everybody."""
        found = self._now.get(kind)
        if not found:
            return None
        return next((fault for fault in found if not target or fault.target in ("", target)), None)
