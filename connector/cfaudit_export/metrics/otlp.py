"""Samples and steps -> an OpenTelemetry collector, over HTTP; the SDK reads `OTEL_...` variables as everywhere.

A process lives as long as a run, so a counter tells what this run added (delta temporality), unless
`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` wants it otherwise. Providers are this module's own, not global:
nothing that a library does is traced along.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from cfaudit_export.core.deadline import Deadline, DeadlineError
from cfaudit_export.http.bounded_requests import bound
from cfaudit_export.metrics import PREFIX, Sample

_LOG = logging.getLogger(__name__)

NAME = "cfaudit-export"
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_CREDENTIALS = "_CREDENTIAL_PROVIDER"
_TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
# A collector that hangs, or answers a byte at a time, holds up a process so long at most, both signals together.
_TIMEOUT_SECONDS, _MARGIN_SECONDS = 2.5, 0.5
_LONGEST_TIMEOUT_SECONDS = 600.0
_QUEUED_SPANS = 4096


class Otlp:
    """Where metrics and traces go. A collector that does not answer is logged, and changes nothing."""

    def __init__(self, endpoint: str | None, environ: Mapping[str, str]) -> None:
        """Build the providers; nothing is sent yet.

        Args:
            endpoint: base URL of the collector; None leaves it to the variables of the SDK.
            environ: the variables.
        """
        self._timeout = _timeout_seconds(environ)
        self._environ = environ
        self._is_sick = False
        self._metrics_url = f"{endpoint.rstrip('/')}/v1/metrics" if endpoint else None
        self._resource = _resource(environ)
        self._has_instance = "service.instance.id=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        self._is_cumulative = environ.get(_TEMPORALITY, "").lower() == "cumulative"
        self._metrics_wanted = environ.get("OTEL_METRICS_EXPORTER") != "none"
        self._tracing = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        if environ.get("OTEL_TRACES_EXPORTER") != "none":
            url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
            exporter = OTLPSpanExporter(endpoint=url, timeout=self._timeout, session=_session(environ))
            # All in one request, so that a collector that hangs is waited for once.
            processor = BatchSpanProcessor(exporter, max_queue_size=_QUEUED_SPANS, max_export_batch_size=_QUEUED_SPANS)
            self._tracing.add_span_processor(processor)
        self._tracer = self._tracing.get_tracer(NAME, version(NAME))

    @contextmanager
    def trace(self, step: str) -> Iterator[dict[str, Any]]:
        """Record a step as a span below the one that is open, with what is put into the dict."""
        facts: dict[str, Any] = {}
        with self._tracer.start_as_current_span(
            f"{PREFIX}.{step}", record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield facts
            except BaseException as error:
                # Its text is left out: an error of a plugin may tell of events.
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            finally:
                span.set_attributes({f"{PREFIX}.{name}": value for name, value in facts.items()})
                if isinstance(span, Span) and facts.get("exit_code"):
                    span.set_status(Status(StatusCode.ERROR, f"exit code {facts['exit_code']}"))

    def send(self, samples: Iterable[Sample], instance: str) -> None:
        """Send the samples of a run.

        Args:
            samples: what was measured; initial values are left out, as the collector knows what came before.
            instance: the `service.instance.id`, unless the variables of the SDK give one. The same for each run of a
                stream, so that a collector adds up what they count.
        """
        if not self._metrics_wanted:
            return
        temporality = AggregationTemporality.CUMULATIVE if self._is_cumulative else AggregationTemporality.DELTA
        reader = InMemoryMetricReader(preferred_temporality={Counter: temporality})
        resource = self._resource
        if not self._has_instance:  # the SDK makes up another one for every process
            resource = resource.merge(Resource({"service.instance.id": instance}))
        provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        meter = provider.get_meter(NAME, version(NAME))
        for sample in samples:
            if sample.initial:
                continue
            metric, labels = sample.metric, dict(sample.labels)
            if metric.kind == "counter":
                meter.create_counter(metric.otel_name, metric.unit, metric.help).add(sample.value, labels)
            else:
                meter.create_gauge(metric.otel_name, metric.unit, metric.help).set(sample.value, labels)
        data = reader.get_metrics_data()
        if data is not None:
            exporter = OTLPMetricExporter(
                endpoint=self._metrics_url, timeout=self._timeout, session=_session(self._environ)
            )
            self._within(lambda: exporter.export(data))
            exporter.shutdown()
        provider.shutdown()

    def close(self) -> None:
        """Send what is left of the traces."""
        self._within(self._tracing.shutdown)

    def _within(self, work: Callable[[], object]) -> None:
        """Do what sends something, and wait for it as long as a collector may take; once it was slow, no more."""
        deadline = Deadline.after(0.0 if self._is_sick else self._timeout + _MARGIN_SECONDS)
        try:
            deadline.run(work)
        except DeadlineError:
            if not self._is_sick:
                _LOG.warning("the OpenTelemetry collector takes too long", extra={"timeout_seconds": self._timeout})
        self._is_sick = deadline.left() < deadline.seconds / 2 or self._is_sick


def _session(environ: Mapping[str, str]) -> requests.Session | None:
    """Return a session whose replies end; None where the SDK is told to find one of another kind."""
    return None if any(name.endswith(_CREDENTIALS) for name in environ) else bound(requests.Session())


def _resource(environ: Mapping[str, str]) -> Resource:
    """Return who we are, unless the variables of the SDK say it."""
    named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": NAME, "service.version": version(NAME)})


def _timeout_seconds(environ: Mapping[str, str]) -> float:
    """Return how long the collector may take: what the variable of the SDK says in seconds, else our own."""
    try:
        seconds = float(environ.get(_TIMEOUT, ""))
    except ValueError:
        return _TIMEOUT_SECONDS
    return seconds if 0 < seconds < _LONGEST_TIMEOUT_SECONDS else _TIMEOUT_SECONDS
