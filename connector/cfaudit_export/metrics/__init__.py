"""What is measured. One table; text file, OpenTelemetry and documentation are made from it.

collect   a run's report and its checkpoint -> samples
textfile  samples -> a file for the node exporter of Prometheus, added to what earlier runs left there
otlp      samples and steps -> an OpenTelemetry collector
observe   the settings -> who is told of a run
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PREFIX = "cfaudit"
EXPORT = ("export", "source")
STREAM = (*EXPORT, "account", "stream")
SINK = (*STREAM, "sink")

_UNIT_SUFFIX = {"s": "_seconds", "By": "_bytes"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is measured.

    Attributes:
        name: words with dots, without the prefix.
        kind: `counter` counts what a run adds, `gauge` says how things are when it ends.
        help: what it is, as a phrase.
        labels: names of its labels. Their values are bounded: exports, accounts, sources, sinks, exit codes.
        unit: of UCUM, as OpenTelemetry wants it: `s`, `By`, or none for a count.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = STREAM
    unit: Literal["", "s", "By"] = ""

    @property
    def otel_name(self) -> str:
        """Return the name in OpenTelemetry."""
        return f"{PREFIX}.{self.name}"

    @property
    def prometheus_name(self) -> str:
        """Return the name in Prometheus: what its translation makes of the name in OpenTelemetry."""
        total = "_total" if self.kind == "counter" else ""
        return self.otel_name.replace(".", "_") + _UNIT_SUFFIX.get(self.unit, "") + total


@dataclass(frozen=True, slots=True)
class Sample:
    """A measured value; an initial one counts only where nothing was measured before."""

    metric: Metric
    labels: Mapping[str, str]
    value: float
    initial: bool = False


METRICS: tuple[Metric, ...] = (
    Metric("runs", "counter", "runs that ended, by exit code", (*STREAM, "exit_code")),
    Metric("events", "counter", "events read, also those that were delivered before"),
    Metric("windows", "counter", "pieces of windows read"),
    Metric("calls", "counter", "calls of the source's tool that brought events"),
    Metric("retries", "counter", "calls made again because the server failed"),
    Metric("throttles", "counter", "times the server asked to wait"),
    Metric("waited", "counter", "time spent waiting for the server or the budget of calls", unit="s"),
    Metric("trimmed_events", "counter", "events delivered without recovered columns: call budget exhausted"),
    Metric("completed_events", "counter", "events delivered again with all columns, in the place of trimmed ones"),
    Metric("rows", "counter", "events that the sink has stored", SINK),
    Metric("late_rows", "counter", "of them, those that an earlier run could not see yet", SINK),
    Metric("batches", "counter", "batches that the sink has taken", SINK),
    Metric("loaded", "counter", "size of these batches, as they were staged", SINK, "By"),
    Metric("refused_rows", "counter", "events that the sink refused for good", SINK),
    Metric("exit_code", "gauge", "exit code of the last run"),
    Metric("last_run.timestamp", "gauge", "when the last run ended", unit="s"),
    Metric("last_run.duration", "gauge", "how long the last run took", unit="s"),
    Metric(
        "last_success.timestamp",
        "gauge",
        "when a run last delivered all it could read (exit code 0 or 65); 0 before the first one",
        unit="s",
    ),
    Metric("gaps", "gauge", "windows that could not be read"),
    Metric("gap_rows", "gauge", "rows known to be unreadable in them"),
    Metric("late_events", "gauge", "events so far that an earlier run could not see yet"),
    Metric("lateness.p50", "gauge", "how late half of them were at most", unit="s"),
    Metric("lateness.p90", "gauge", "how late nine of ten were at most", unit="s"),
    Metric("lateness.p99", "gauge", "how late 99 of 100 were at most", unit="s"),
    Metric("lateness.max", "gauge", "how late the latest was", unit="s"),
    Metric("sink_failed", "gauge", "1 when the sink failed in the last run, else 0", SINK),
    Metric("covered.timestamp", "gauge", "up to when the sink has everything, but for gaps", SINK, "s"),
    Metric("lag", "gauge", "how far that was behind when the run ended", SINK, "s"),
    Metric("holes", "gauge", "times never read between those that the sink has", SINK),
    Metric("pending_batches", "gauge", "batches promised to the sink and not delivered yet", SINK),
    Metric("quarantined_rows", "gauge", "events quarantined because the sink refuses them", SINK),
    Metric("trimmed_rows", "gauge", "events that the sink has without recovered columns: call budget exhausted", SINK),
    Metric("trimmed_overdue_rows", "gauge", "of them, those of more than a day ago, where above 1 % of all", SINK),
    Metric("sign_in_end.timestamp", "gauge", "when the sign-in ends and a person must sign in again", EXPORT, "s"),
    Metric("last_end.timestamp", "gauge", "when the command last ended, also where no run could begin", EXPORT, "s"),
    Metric("last_end.exit_code", "gauge", "the exit code it ended with", EXPORT),
    Metric("last_good_end.timestamp", "gauge", "when it last ended with 0 or 65; 0 before the first time", EXPORT, "s"),
)
"""Every metric, in the order of the documentation."""
