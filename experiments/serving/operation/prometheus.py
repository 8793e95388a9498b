"""The metrics of the service, for Prometheus."""

from __future__ import annotations

import prometheus_client

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class ServiceMetrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self):
        """Register the metrics."""
        self.registry = registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)  # memory, processor time, start
        self.requests = prometheus_client.Histogram(
            "hrnn_request_seconds",
            "Time to answer a request.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.events = prometheus_client.Counter(
            "hrnn_events", "Events by outcome.", ["outcome"], registry=registry
        )
        self.batches = prometheus_client.Histogram(
            "hrnn_batch_size",
            "Events observed, or lists recommended, in one call of the model.",
            ["kind"],
            buckets=[2**n for n in range(11)],
            registry=registry,
        )
        self.states = prometheus_client.Gauge(
            "hrnn_states", "Users and anonymous sessions with a state.", registry=registry
        )
        self.rebuilt = prometheus_client.Counter(
            "hrnn_rebuilt_states",
            "Damaged states that were computed again from the stored events.",
            registry=registry,
        )
        self._n_rebuilt = 0
        self.model = prometheus_client.Info("hrnn_model", "The model served.", registry=registry)

    def text(self, states: int, rebuilt: int) -> bytes:
        """Return all metrics in Prometheus' text format.

        Args:
            states: the number of states.
            rebuilt: how many damaged ones were computed again since the start.
        """
        self.states.set(states)
        self.rebuilt.inc(rebuilt - self._n_rebuilt)
        self._n_rebuilt = rebuilt
        return prometheus_client.generate_latest(self.registry)
