"""Prometheus metrics, summed over the workers of this machine.

Each worker writes its numbers into files named after its SLOT, not its pid: a worker that is restarted goes on with the
counters of its slot, and the folder does not grow. Gauges are of the living only: `forget_slot` removes
those of a worker that died.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Literal, TypeVar

import prometheus_client as prometheus
from prometheus_client import multiprocess, values
from prometheus_client.metrics import MetricWrapperBase

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
LATENCY_S_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's own name for it

Child = TypeVar("Child", bound=MetricWrapperBase)


def use_slot(slot: int, folder: Path) -> None:
    """Make this process write its numbers as worker `slot` into `folder`. Call before the first `Metrics`."""
    os.environ[_FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)


def forget_slot(slot: int, folder: Path) -> None:
    """Remove the gauges of a worker that is gone: its open sockets are. Counters stay."""
    for kind in ("livesum", "liveall", "livemax", "livemin", "livemostrecent"):
        (folder / f"gauge_{kind}_{slot}.db").unlink(missing_ok=True)


class Family(Generic[Child]):
    """One metric with its children by label values, kept: `labels()` of the library costs more than the count itself."""

    __slots__ = ("_children", "_metric")

    def __init__(self, metric: Child) -> None:
        self._metric: Child = metric
        self._children: dict[tuple[str, ...], Child] = {}

    def of(self, *labels: str) -> Child:
        """The child with these label values, in the order of the declaration; none for a metric without labels.

        Label values must come from a small fixed set: each one is kept for ever.
        """
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels) if labels else self._metric
        return child


class Counter(Family[prometheus.Counter]):
    """Only grows."""

    def add(self, *labels: str, by: float = 1) -> None:
        self.of(*labels).inc(by)


class Gauge(Family[prometheus.Gauge]):
    """Goes up and down; summed over living workers."""

    def set(self, *labels: str, to: float) -> None:
        self.of(*labels).set(to)

    def add(self, *labels: str, by: float = 1) -> None:
        self.of(*labels).inc(by)


class Histogram(Family[prometheus.Histogram]):
    """Counts by size."""

    def observe(self, *labels: str, value: float) -> None:
        self.of(*labels).observe(value)


class Metrics:
    """The metrics of one server. Names get the prefix `dispatch_`; counters end in `_total`, times in `_seconds`."""

    def __init__(self, prefix: str = "dispatch") -> None:
        self._prefix = prefix
        self._registry = prometheus.CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(prometheus.Counter(f"{self._prefix}_{name}", text, labels, registry=self._registry))

    def gauge(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        mode: Literal["livesum", "livemax", "liveall"] = "livesum",
    ) -> Gauge:
        """`liveall` keeps one series per worker, with its slot in the label `pid`."""
        return Gauge(
            prometheus.Gauge(f"{self._prefix}_{name}", text, labels, registry=self._registry, multiprocess_mode=mode)
        )

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = LATENCY_S_BUCKETS
    ) -> Histogram:
        return Histogram(
            prometheus.Histogram(f"{self._prefix}_{name}", text, labels, registry=self._registry, buckets=buckets)
        )

    def render(self) -> bytes:
        """The text format, of type CONTENT_TYPE: of all workers when a folder is in use, else of this process."""
        registry = self._registry
        if values.ValueClass is not values.MutexValue:
            registry = prometheus.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, path=os.environ[_FOLDER])
        return prometheus.generate_latest(registry)
