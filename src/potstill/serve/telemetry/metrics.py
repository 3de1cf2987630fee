"""What the gateway counts, as Prometheus' text format.

What it knows: counters, gauges that are read when asked, histograms of seconds. What it does not do: labels by episode,
tenant's key or any name that a client makes up (their number must stay small), or keep anything over a restart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]


class Counter:
    """A number per combination of labels that only grows."""

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, *values: str, by: float = 1) -> None:
        self.values[values] = self.values.get(values, 0) + by

    def total(self) -> float:
        return sum(self.values.values())

    def lines(self) -> list[str]:
        rows = [f"{self.name}{_shown(self.labels, key)} {_number(value)}" for key, value in self.values.items()]
        return [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} counter", *rows]


class Gauge:
    """A number that is read when somebody asks."""

    def __init__(self, name: str, help: str, read: Callable[[], float]) -> None:
        self.name, self.help, self.read = name, help, read

    def lines(self) -> list[str]:
        name = self.name
        return [f"# HELP {name} {self.help}", f"# TYPE {name} gauge", f"{name} {_number(self.read())}"]


class Told:
    """Numbers that others keep, by labels out of a fixed set, read when somebody asks."""

    def __init__(
        self, name: str, help: str, labels: Labels, read: Callable[[], Mapping[Labels, float]], kind: str = "counter"
    ) -> None:
        self.name, self.help, self.labels, self.read, self.kind = name, help, labels, read, kind

    def lines(self) -> list[str]:
        rows = [f"{self.name}{_shown(self.labels, key)} {_number(value)}" for key, value in self.read().items()]
        return [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} {self.kind}", *rows]


class Histogram:
    """Seconds in cumulative buckets."""

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, seconds: float, *values: str) -> None:
        counts = self._counts.get(values)
        if counts is None:
            counts = self._counts[values] = [0] * (len(SECONDS) + 1)
            self._sums[values] = 0.0
        counts[bisect_left(SECONDS, seconds)] += 1
        self._sums[values] += seconds

    def lines(self) -> list[str]:
        rows = [f"# HELP {self.name} {self.help}", f"# TYPE {self.name} histogram"]
        for key, counts in self._counts.items():
            so_far = 0
            for bound, count in zip((*(f"{bound:g}" for bound in SECONDS), "+Inf"), counts, strict=True):
                so_far += count
                rows.append(f"{self.name}_bucket{_shown((*self.labels, 'le'), (*key, bound))} {so_far}")
            rows.append(f"{self.name}_sum{_shown(self.labels, key)} {self._sums[key]:.6f}")
            rows.append(f"{self.name}_count{_shown(self.labels, key)} {so_far}")
        return rows


class Metrics:
    """All that one gateway counts."""

    def __init__(self) -> None:
        self.requests = Counter(
            "potstill_requests_total", "Requests that were answered.", ("route", "dialect", "status", "answerer")
        )
        self.upstream = Counter("potstill_upstream_requests_total", "Requests to upstreams.", ("upstream", "status"))
        self.retries = Counter("potstill_upstream_retries_total", "Requests that were sent again.", ("upstream",))
        self.tokens = Counter("potstill_tokens_total", "Tokens as upstreams billed them.", ("route", "kind"))
        self.unknown_usage = Counter("potstill_unknown_usage_total", "Answers without usable token counts.", ("route",))
        self.cut = Counter("potstill_cut_answers_total", "Answers that did not end well.", ("route", "by"))
        self.cost = Counter(
            "potstill_cost_usd_total", "Dollars by list prices, as tenants are charged.", ("route", "side")
        )
        self.fail_open = Counter("potstill_fail_open_total", "Failures that the teacher made up for.", ("what",))
        self.recorded = Counter("potstill_recorded_total", "Exchanges that are durable.")
        self.commits = Counter("potstill_commits_total", "Batches that were committed, one fsync each.")
        self.dropped = Counter("potstill_dropped_total", "Exchanges not recorded because the queue was full.")
        self.unrecorded = Counter("potstill_record_failures_total", "Exchanges that the store did not take.")
        self.otel_spans = Counter("potstill_otel_spans_total", "Spans for a collector.", ("result",))
        self.latency = Histogram("potstill_request_seconds", "From a request's head to its answer's end.", ("route",))
        self.first_byte = Histogram("potstill_first_byte_seconds", "To the first byte of the answer.", ("route",))
        self.added = Histogram("potstill_added_seconds", "To the first byte, less the wait for models.", ("route",))
        self.gauges: list[Gauge] = []
        self.told: list[Told] = []

    def gauge(self, name: str, help: str, read: Callable[[], float]) -> None:
        self.gauges.append(Gauge(name, help, read))

    def tell(
        self, name: str, help: str, labels: Labels, read: Callable[[], Mapping[Labels, float]], kind: str = "counter"
    ) -> None:
        """Show numbers that somebody else keeps. ``labels`` must have few values, none of a client's making."""
        self.told.append(Told(name, help, labels, read, kind))

    def text(self) -> bytes:
        """The page that Prometheus scrapes."""
        families = [one for one in vars(self).values() if isinstance(one, Counter | Histogram)]
        lines = [line for one in (*families, *self.told, *self.gauges) for line in one.lines()]
        return ("\n".join(lines) + "\n").encode()


def _shown(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.12g}"
