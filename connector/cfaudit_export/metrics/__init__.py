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
    Metric("runs", "counter", "finished runs, by exit code", (*STREAM, "exit_code")),
    Metric("events", "counter", "events read, including those already delivered"),
    Metric("windows", "counter", "pieces of windows read"),
    Metric("calls", "counter", "successful calls of the source's tool"),
    Metric("retries", "counter", "calls retried after a failure of the server"),
    Metric("throttles", "counter", "times that the server throttled the run"),
    Metric("waited", "counter", "time spent waiting for the server or for the call budget", unit="s"),
    Metric("trimmed_events", "counter", "events delivered without recovered columns: call budget exhausted"),
    Metric("completed_events", "counter", "trimmed events delivered again with all columns"),
    Metric("rows", "counter", "events stored by the sink", SINK),
    Metric("late_rows", "counter", "events stored by the sink that an earlier run could not see yet", SINK),
    Metric("batches", "counter", "batches stored by the sink", SINK),
    Metric("loaded", "counter", "staged size of the batches stored by the sink", SINK, "By"),
    Metric("refused_rows", "counter", "events that the sink refused for good", SINK),
    Metric("exit_code", "gauge", "exit code of the last run"),
    Metric("last_run.timestamp", "gauge", "when the last run ended", unit="s"),
    Metric("last_run.duration", "gauge", "how long the last run took", unit="s"),
    Metric(
        "last_success.timestamp",
        "gauge",
        "when a run last ended with exit code 0 or 65, everything readable delivered; 0 before the first time",
        unit="s",
    ),
    Metric("gaps", "gauge", "recorded gaps"),
    Metric("gap_rows", "gauge", "rows known to be missing in the gaps"),
    Metric("late_events", "gauge", "late events so far: an earlier run could not see them yet"),
    Metric("lateness.p50", "gauge", "median lateness of the late events", unit="s"),
    Metric("lateness.p90", "gauge", "90th percentile of their lateness", unit="s"),
    Metric("lateness.p99", "gauge", "99th percentile of their lateness", unit="s"),
    Metric("lateness.max", "gauge", "largest lateness", unit="s"),
    Metric("sink_failed", "gauge", "1 when the sink failed in the last run, else 0", SINK),
    Metric("covered.timestamp", "gauge", "time up to which the sink has everything, except gaps", SINK, "s"),
    Metric("lag", "gauge", "how far the covered time was behind when the run ended", SINK, "s"),
    Metric("holes", "gauge", "unread intervals between the intervals that the sink has", SINK),
    Metric("pending_batches", "gauge", "batches with an intent that the sink has not confirmed yet", SINK),
    Metric("quarantined_rows", "gauge", "events quarantined because the sink refuses them", SINK),
    Metric("trimmed_rows", "gauge", "events that the sink has without recovered columns: call budget exhausted", SINK),
    Metric("trimmed_overdue_rows", "gauge", "trimmed events older than a day, if over 1 % of all events", SINK),
    Metric("manifest_sequence", "gauge", "number of the newest manifest of what the sink has", SINK),
    Metric("manifest_digest", "gauge", "first 12 hexadecimal digits of the SHA-256 of its file, as a number", SINK),
    Metric("unsealed_batches", "gauge", "batches that no manifest names yet", SINK),
    Metric("sign_in_end.timestamp", "gauge", "when the sign-in ends and a person must sign in again", EXPORT, "s"),
    Metric("last_end.timestamp", "gauge", "when the command last ended, even if no run began", EXPORT, "s"),
    Metric("last_end.exit_code", "gauge", "exit code of the command", EXPORT),
    Metric(
        "last_good_end.timestamp",
        "gauge",
        "when the command last ended with 0 or 65; 0 before the first time",
        EXPORT,
        "s",
    ),
)
"""Every metric, in the order of the documentation."""
