"""Writes down what clients asked and were told, client by client, as it happens."""

from collections import defaultdict
from pathlib import Path

import msgspec

from bench.faults.history import Fault, Op, Told

_encode = msgspec.json.Encoder().encode


class Recorder:
    """One JSON-lines file per client in `folder`; `flush` writes what has come since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ops: list[Op] = []
        """All that are finished or given up, for the figures."""
        self.faults: list[Fault] = []
        self.told_count = 0
        self._waiting: dict[str, list[bytes]] = defaultdict(list)

    def op(self, op: Op) -> None:
        """A request that is over: final, or given up."""
        self.ops.append(op)
        self._waiting[op.client].append(_encode(op))

    def told(self, told: Told) -> None:
        self.told_count += 1
        self._waiting[told.client].append(_encode(told))

    def fault(self, fault: Fault) -> None:
        """A fault that is over, with whom it met."""
        self.faults.append(fault)
        self._waiting["faults"].append(_encode(fault))

    def flush(self) -> None:
        for client, lines in self._waiting.items():
            if lines:
                with (self.folder / f"{client}.jsonl").open("ab") as file:
                    file.write(b"\n".join(lines) + b"\n")
                lines.clear()
