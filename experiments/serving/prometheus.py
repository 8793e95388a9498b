"""What the service counts and times, for Prometheus."""

from __future__ import annotations

import prometheus_client

_SECONDS = (*(0.001, 0.002, 0.005, 0.01, 0.02, 0.05), *(0.1, 0.2, 0.5, 1, 2, 5, 10))


class Meters:
    """The figures of one service, in a registry of its own."""

    def __init__(self):
        self.registry = registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)  # memory, processor time, start
        self.requests = prometheus_client.Histogram(
            "hrnn_request_seconds",
            "Time to answer.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.events = prometheus_client.Counter(
            "hrnn_events", "Events by what became of them.", ["outcome"], registry=registry
        )
        self.batches = prometheus_client.Histogram(
            "hrnn_batch_size",
            "Events taken in, or lists recommended, by one call.",
            ["kind"],
            buckets=[2**n for n in range(11)],
            registry=registry,
        )
        self.states = prometheus_client.Gauge(
            "hrnn_states", "Users and anonymous sessions with a state.", registry=registry
        )
        self.model = prometheus_client.Info("hrnn_model", "What is served.", registry=registry)

    def batch(self, kind: str, size: int) -> None:
        """Note a batch."""
        self.batches.labels(kind).observe(size)

    def text(self, states: int) -> bytes:
        """Return all figures in Prometheus' text format."""
        self.states.set(states)
        return prometheus_client.generate_latest(self.registry)
