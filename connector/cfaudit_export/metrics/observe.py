"""The settings -> the observers of a run: a metrics file, an OpenTelemetry collector, both or none."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfaudit_export.core.causes import shortage_of
from cfaudit_export.core.installing import install_command
from cfaudit_export.core.model import Checkpoint, RunReport
from cfaudit_export.core.urls import check_secret_url
from cfaudit_export.errors import CfauditError, ExitCode, SettingsError, worst
from cfaudit_export.metrics.collect import collect, collect_end
from cfaudit_export.metrics.textfile import write_textfile

if TYPE_CHECKING:
    from cfaudit_export.metrics.otlp import Otlp

STOPPED = 130
"""The exit code that is told of a command that was stopped."""
_LOG = logging.getLogger(__name__)
# Keys of collectors travel in these.
_HEADERS = (
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)
_INSECURE = "OTEL_EXPORTER_OTLP_INSECURE"
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told of runs. What goes wrong there is logged, and changes nothing about a run.

    Attributes:
        file: the metrics file.
        otlp: the OpenTelemetry collector.
        export: the name under which all is told, for several exports on one machine.
    """

    file: Path | None = None
    otlp: Otlp | None = None
    export: str = ""

    def trace(self, step: str) -> AbstractContextManager[dict[str, Any]]:
        """Tell that a step begins; see `cfaudit_export.pipeline.run_context.Trace`."""
        return self.otlp.trace(step) if self.otlp else nullcontext({})

    def ended(self, report: RunReport, checkpoint: Checkpoint | None, sign_in_ends_at: datetime | None = None) -> None:
        """Tell what a run measured."""
        samples = list(collect(report, checkpoint, sign_in_ends_at, export=self.export))
        if self.file:
            write_textfile(self.file, samples)
        if self.otlp:
            self.otlp.send(samples, _instance(self.export, report.stream.id))

    @contextmanager
    def concluding(self, source: str, clock: Callable[[], datetime]) -> Iterator[list[ExitCode]]:
        """Tell how a whole command ended, also where it never came to a run; yield the list for its exit codes."""
        codes: list[ExitCode] = []
        code = ExitCode.BUG
        try:
            yield codes
            code = worst(codes)
        except CfauditError as error:
            code = error.exit_code
            raise
        except Exception as error:
            code = ExitCode.TRY_AGAIN if shortage_of(error) else ExitCode.BUG
            raise
        finally:
            stopped = isinstance(sys.exception(), KeyboardInterrupt | GeneratorExit)
            samples = list(collect_end(self.export, source, STOPPED if stopped else code, clock()))
            if self.file:
                write_textfile(self.file, samples)
            if self.otlp:
                self.otlp.send(samples, _instance(self.export, source))


@contextmanager
def observing(
    file: Path | None, endpoint: str | None, environ: Mapping[str, str], export: str = ""
) -> Iterator[Observer]:
    """Yield the observer of this process; what it still holds is sent when the context ends.

    Args:
        file: the metrics file that is wanted.
        endpoint: the OpenTelemetry collector that is wanted; None asks the variables.
        environ: the variables.
        export: the name of the export.

    Raises:
        SettingsError: a collector is named in the settings, and the libraries are not installed, or keys would travel
            to it in clear text.
    """
    otlp = _otlp(endpoint, environ)
    try:
        yield Observer(file, otlp, export)
    finally:
        if otlp:
            otlp.close()


def _instance(*words: str) -> str:
    """Return the same id for the same export and stream at every run, so that their counters go on."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("cfaudit-export", *words))))


def _otlp(endpoint: str | None, environ: Mapping[str, str]) -> Otlp | None:
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if is_off or not (endpoint or any(environ.get(name) for name in _ENDPOINTS)):
        return None
    try:
        from cfaudit_export.metrics.otlp import Otlp
    except ImportError:
        if endpoint:
            raise SettingsError(
                f"otlp_endpoint needs OpenTelemetry, which is not installed; run: {install_command('otel')}"
            ) from None
        # The variable may be meant for everything on this machine.
        _LOG.warning(
            "OpenTelemetry is not installed, so nothing is sent to the collector", extra={"do": install_command("otel")}
        )
        return None
    return Otlp(endpoint, environ) if _may_send(endpoint, environ) else None


def _may_send(endpoint: str | None, environ: Mapping[str, str]) -> bool:
    """Say whether keys that go along, in headers or in the URL, stay secret on the way.

    Raises:
        SettingsError: they would not, and the collector is named in the settings.
    """
    urls = [endpoint] if endpoint else [url for name in _ENDPOINTS if (url := environ.get(name))]
    has_keys = any(environ.get(name) for name in _HEADERS) or any(
        url.lower().startswith("http:") and {"?", "@"} & {*url} for url in urls
    )
    if not has_keys or environ.get(_INSECURE, "").lower() == "true":
        return True
    try:
        for url in urls:
            check_secret_url(url, "keys for the collector", allow=f"{_INSECURE}=true")
    except SettingsError as error:
        if endpoint:
            raise
        _LOG.warning("nothing is sent to the OpenTelemetry collector", extra={"error": str(error)})
        return False
    return True
