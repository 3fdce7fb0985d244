"""What a collector receives, over HTTP."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, AGGREGATION_TEMPORALITY_DELTA

from cfaudit_export.app.compose import RunListeners, compose
from cfaudit_export.app.export import export
from cfaudit_export.core.model import Checkpoint, RunReport
from cfaudit_export.errors import ExitCode, SettingsError
from cfaudit_export.metrics import METRICS
from cfaudit_export.metrics.observe import observing
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.settings import Settings
from cfaudit_sandbox import Sandbox, SandboxOptions, World


@dataclass
class Collector:
    """A receiver of OTLP over HTTP."""

    url: str
    status: int = 200
    silent: bool = False
    drips: bool = False
    dripped: bool = False
    over: Event = field(default_factory=Event)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def bodies(self, path: str) -> Iterator[bytes]:
        yield from (body for asked, _, body in self.requests if asked == path)

    @property
    def metrics(self) -> list[Any]:
        found = map(ExportMetricsServiceRequest.FromString, self.bodies("/v1/metrics"))
        return [one for request in found for one in request.resource_metrics]

    @property
    def spans(self) -> list[Any]:
        found = map(ExportTraceServiceRequest.FromString, self.bodies("/v1/traces"))
        scopes = [scope for request in found for one in request.resource_spans for scope in one.scope_spans]
        return [span for scope in scopes for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            found.requests.append((self.path, dict(self.headers), body))
            if found.silent:
                found.over.wait(30)
            with suppress(OSError):
                while found.drips and not found.over.wait(0.1):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n" if not found.dripped else b"x")
                    found.dripped = True
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


def points(metric: Any) -> Any:
    return metric.sum.data_points if metric.HasField("sum") else metric.gauge.data_points


def test_every_metric_arrives_with_its_labels_and_counters_say_what_this_run_added(
    collector: Collector, report: Callable[..., RunReport], checkpoint: Checkpoint
) -> None:
    done = report(exit_code=ExitCode.OK)
    with observing(None, collector.url, {}, "nightly") as observer:
        observer.ended(done, checkpoint, done.finished_at)
        with observer.concluding("auditlogs", lambda: done.finished_at) as codes:
            codes.append(ExitCode.OK)
    received = collector.metrics
    assert [attributes(one.resource)["service.name"] for one in received] == ["cfaudit-export"] * 2
    metrics = {metric.name: metric for one in received for scope in one.scope_metrics for metric in scope.metrics}
    assert metrics.keys() == {metric.otel_name for metric in METRICS}
    for metric in METRICS:
        sent = metrics[metric.otel_name]
        assert (sent.unit, sent.description) == (metric.unit, metric.help)
        assert all(attributes(point).keys() == set(metric.labels) for point in points(sent))
        assert sent.HasField("sum") == (metric.kind == "counter")
        if metric.kind == "counter":
            assert sent.sum.is_monotonic
            assert sent.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_DELTA
    [events] = points(metrics["cfaudit.events"])
    assert events.as_int == 1_000
    lag = {attributes(point)["sink"]: point.as_double for point in points(metrics["cfaudit.lag"])}
    assert lag == {"parquet": 3_600.0, "s3": 6 * 3_600.0}


def test_the_runs_of_a_stream_are_one_instance_to_a_collector_and_other_exports_are_others(
    collector: Collector, report: Callable[..., RunReport]
) -> None:
    for name in ("files", "files", "splunk"):
        with observing(None, collector.url, {}, name) as observer:
            observer.ended(report(), None)
    first, second, other = [attributes(one.resource)["service.instance.id"] for one in collector.metrics]
    assert first == second != other


def test_a_command_that_cannot_begin_is_told_too_and_a_success_of_before_is_not_taken_back(
    collector: Collector,
) -> None:
    with (
        observing(None, collector.url, {}) as observer,
        pytest.raises(SettingsError),
        observer.concluding("auditlogs", lambda: datetime.now(UTC)),
    ):
        raise SettingsError("no sink")
    [received] = collector.metrics
    metrics = {metric.name: metric for scope in received.scope_metrics for metric in scope.metrics}
    [code] = points(metrics["cfaudit.last_end.exit_code"])
    assert (code.as_int or code.as_double) == 78
    assert "cfaudit.last_good_end.timestamp" not in metrics


def test_the_variables_of_the_sdk_are_heard(
    collector: Collector, report: Callable[..., RunReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "cumulative",
        "OTEL_SERVICE_NAME": "audit",
        "OTEL_TRACES_EXPORTER": "none",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with observing(None, None, environ) as observer:
        with observer.trace("run"):
            pass
        observer.ended(report(), None)
    [received] = collector.metrics
    assert attributes(received.resource)["service.name"] == "audit"
    [(path, headers, _)] = collector.requests
    assert (path, headers["x-tenant"]) == ("/v1/metrics", "acme")
    sums = [metric.sum for scope in received.scope_metrics for metric in scope.metrics if metric.HasField("sum")]
    assert {one.aggregation_temporality for one in sums} == {AGGREGATION_TEMPORALITY_CUMULATIVE}


@pytest.mark.parametrize(
    "environ", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}]
)
def test_nothing_is_sent_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    with observing(None, None, environ) as observer:
        assert observer.otlp is None
        with observer.trace("run") as facts:
            facts["exit_code"] = 0


def test_a_collector_in_the_settings_needs_the_libraries_and_one_in_a_variable_goes_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cfaudit_export.metrics.otlp", None)  # as if the import failed
    with pytest.raises(SettingsError, match=r"install .*\[otel\]'"), observing(None, "http://x", {}):
        pass
    with observing(None, None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) as observer:
        assert observer.otlp is None
    [record] = caplog.records
    assert record.message.startswith("OpenTelemetry is not installed")


KEYS = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=5ec2e7"}


def test_keys_in_headers_do_not_travel_in_clear_text_unless_that_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    plain = "http://collector.example:4318"
    with (
        pytest.raises(SettingsError, match="clear text.*OTEL_EXPORTER_OTLP_INSECURE=true"),
        observing(None, plain, KEYS),
    ):
        pass
    for keyed in (f"{plain}/?key=5ec2e7", "http://me:5ec2e7@collector.example:4318"):
        with pytest.raises(SettingsError) as refused, observing(None, keyed, {}):
            pass
        assert "5ec2e7" not in str(refused.value)
    with observing(None, None, KEYS | {"OTEL_EXPORTER_OTLP_ENDPOINT": plain}) as observer:
        assert observer.otlp is None
    assert "5ec2e7" not in caplog.text
    allowed = KEYS | {"OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_TRACES_EXPORTER": "none"}
    for endpoint, environ in ((plain, allowed), (plain, {}), ("https://collector.example", KEYS)):
        with observing(None, endpoint, environ | {"OTEL_TRACES_EXPORTER": "none"}) as observer:
            assert observer.otlp is not None


@pytest.mark.parametrize("fault", [{"status": 400}, {"silent": True}, {"drips": True}])
def test_a_collector_that_fails_or_hangs_holds_nobody_up_for_long(
    collector: Collector, report: Callable[..., RunReport], fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in fault.items():
        setattr(collector, name, value)
    since = time.monotonic()
    with observing(None, collector.url, {}) as observer:
        with observer.trace("run"):
            pass
        observer.ended(report(), None)
    assert time.monotonic() - since < 9
    names = [record.name for record in caplog.records]
    assert any(name.startswith(("opentelemetry", "cfaudit_export.metrics.otlp")) for name in names)


def test_a_run_is_one_trace_and_its_steps_lie_below_it(collector: Collector, tmp_path: Path) -> None:
    world = World(SandboxOptions(events=300, span_seconds=86_400.0))
    with Sandbox(world) as sandbox:
        settings = Settings(
            account=(world.accounts[0].id,),
            sink=("parquet",),
            state_dir=tmp_path / "state",
            sources={"auditlogs": {"server_url": sandbox.mcp_url, "budget_calls": 0}},
            sinks={"parquet": {"path": str(tmp_path / "out")}},
            recover={"mode": "off"},
        )
        environ = {"CLOUDFLARE_API_TOKEN": world.tokens["account"]}
        assembly = compose(settings, load_plugins(), environ=environ, clock=lambda: datetime.now(UTC))
        with observing(None, collector.url, {}) as observer:
            done = export(assembly, world.accounts[0].id, RunListeners(trace=observer.trace))
    assert done.exit_code == 0
    spans = collector.spans
    assert len({span.trace_id for span in spans}) == 1
    [run] = [span for span in spans if not span.parent_span_id]
    assert run.name == "cfaudit.run"
    facts = attributes(run)
    assert facts["cfaudit.account"] == world.accounts[0].id
    assert facts["cfaudit.exit_code"] == 0
    assert facts["cfaudit.events"] == 300
    names = {span.span_id: span.name for span in spans}
    below = {(names[span.parent_span_id], span.name) for span in spans if span.parent_span_id}
    assert below == {
        *(("cfaudit.run", f"cfaudit.{step}") for step in ("settle", "plan", "extract", "deliver", "seal")),
        *(("cfaudit.deliver", f"cfaudit.{step}") for step in ("map", "stage", "promise", "load", "digest", "commit")),
    }
    loaded = [attributes(span) for span in spans if span.name == "cfaudit.load"]
    assert {one["cfaudit.sink"] for one in loaded} == {"parquet"}
    assert sum(one["cfaudit.rows"] for one in loaded) == 300
    for span in spans:
        assert run.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= run.end_time_unix_nano


def test_a_step_that_fails_is_marked_without_the_words_of_the_error(collector: Collector) -> None:
    with observing(None, collector.url, {}) as observer:
        with pytest.raises(RuntimeError), observer.trace("load"):
            raise RuntimeError("ada@example.com deleted a zone")
        with observer.trace("run") as facts:
            facts["exit_code"] = 75
    said = {span.name: span.status.message for span in collector.spans}
    assert said == {"cfaudit.load": "RuntimeError", "cfaudit.run": "exit code 75"}
    assert not any(b"ada@example.com" in body for body in collector.bodies("/v1/traces"))
