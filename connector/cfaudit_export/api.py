"""Exports started from Python, as a scheduler does: what `run` and `plan --slices` do, without a terminal.

assembly = prepare(Given(flags={"sink": ["parquet"]}), environ=os.environ, clock=clock)
for report in export_all(assembly):
    print(report.exit_code)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cfaudit_export.app.accounts import accounts, accounts_of
from cfaudit_export.app.alerting import alert
from cfaudit_export.app.compose import Assembly, RunListeners, compose
from cfaudit_export.app.export import export
from cfaudit_export.app.failover import candidates
from cfaudit_export.app.log import logging_through
from cfaudit_export.app.ping import pinging
from cfaudit_export.app.shared_budget import sharing_budget
from cfaudit_export.app.side_by_side import side_by_side
from cfaudit_export.app.sign_in import current_sign_in
from cfaudit_export.app.slicing import slices
from cfaudit_export.core.jsonable import as_plain
from cfaudit_export.core.model import Checkpoint, RunReport
from cfaudit_export.core.redaction import Redaction
from cfaudit_export.errors import CfauditError, ExitCode, SettingsError
from cfaudit_export.metrics.observe import Observer, observing
from cfaudit_export.settings import Given, Settings, load_settings
from cfaudit_export.settings.secret_values import secret_values, secret_variables

__all__ = [
    "UNKNOWN_ACCOUNT",
    "Assembly",
    "EndedRun",
    "Given",
    "Redaction",
    "accounts",
    "alert",
    "as_plain",
    "compose_runs",
    "export_all",
    "export_each",
    "logging_through",
    "prepare",
    "read_settings",
    "slices",
]

_LOG = logging.getLogger(__name__)

UNKNOWN_ACCOUNT = "not known yet"
"""What stands for the account of a run that ended before it found out which it is."""

Follow = Callable[[str], AbstractContextManager[RunListeners]]


def unwatched(_account: str) -> AbstractContextManager[RunListeners]:
    """Report the progress of a run to no one."""
    return nullcontext(RunListeners())


def prepare(
    given: Given,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None] = lambda _secret: None,
    needs_sink: bool = True,
    is_run: bool = False,
) -> Assembly:
    """Read the settings as the command line does, and fit everything together. Nothing is connected yet.

    Args:
        given: what would be on the command line: a file, `-o` pairs, flags by the names of their options.
        environ: the variables.
        clock: the time, aware and UTC.
        hide: told of every secret that is found.
        needs_sink: whether events are to go somewhere.
        is_run: whether exports are to follow, so that the monitor of `ping_url` is told where they cannot begin.

    Raises:
        CfauditError: something does not fit, or there is no credential; `exit_code` says what the program would.
    """
    for secret in secret_variables(environ):
        hide(secret)  # an error about settings may have it
    settings = load_settings(given, environ=environ, now=clock(), directory=Path())
    for secret in secret_values(settings, environ):
        hide(secret)
    for notice in settings.notices:
        _LOG.warning(notice)
    return compose_runs(settings, environ=environ, clock=clock, hide=hide, needs_sink=needs_sink, is_run=is_run)


def read_settings(
    given: Given,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None] = lambda _secret: None,
) -> Settings:
    """Read the settings as the command line does; takes the arguments of `prepare`, and needs no credential.

    Raises:
        CfauditError: something does not fit.
    """
    for secret in secret_variables(environ):
        hide(secret)  # an error about settings may have it
    settings = load_settings(given, environ=environ, now=clock(), directory=Path())
    for secret in secret_values(settings, environ):
        hide(secret)
    return settings


def compose_runs(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None],
    needs_sink: bool = True,
    is_run: bool = False,
) -> Assembly:
    """Return what runs with these settings are made of. Raises what `prepare` raises."""
    if settings.ping_url:
        hide(settings.ping_url)
    try:
        return _composed(settings, environ, clock, hide, needs_sink=needs_sink)
    except CfauditError:
        if not is_run:
            raise
        with _observed(settings, settings.source, environ, clock):
            raise


def _composed(
    settings: Settings,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None],
    *,
    needs_sink: bool,
) -> Assembly:
    from cfaudit_export.plugin.registry import load_plugins  # the list of installed distributions is slow to import

    plugins = load_plugins(environ=environ)
    if needs_sink and not settings.sink:
        installed = ", ".join(plugins.sinks) or "none"
        raise SettingsError(f"no sink is set; name one, as in --sink parquet (installed: {installed})")
    return sharing_budget(compose(settings, plugins, environ=environ, clock=clock, hide=hide))


@dataclass(frozen=True, slots=True)
class EndedRun:
    """How the run of one account ended.

    Attributes:
        place: the place of the account among all that are exported.
        report: what the run did.
        checkpoint: the checkpoint that it left; None where there is none, or none that can be read.
    """

    place: int
    report: RunReport
    checkpoint: Checkpoint | None


def export_all(assembly: Assembly, follow: Follow = unwatched, *, observed: bool = True) -> Iterator[RunReport]:
    """Run every account once, several side by side, and yield how each went; one that fails does not stop the others.

    Reports come as the runs end. As many accounts are exported at once as the setting `parallel` says, those first
    that have at most a day to read.

    For every caller, the metrics file, the collector and the monitor that the settings name hear of each run, and
    the log of how it ended. A caller that breaks off, and closes the iterator, is a failure for the monitor.

    Args:
        assembly: what runs are made of.
        follow: opens for each account whom the run tells how it gets on, such as a progress bar; where several
            accounts are exported side by side it is called in their threads.
        observed: False leaves out what observes runs: for a run beside the regular ones.

    Raises:
        CfauditError: which accounts there are is asked for, and there is no answer.
    """
    with closing(export_each(assembly, follow, observed=observed)) as runs:
        for ended in runs:
            yield ended.report


def export_each(
    assembly: Assembly, follow: Follow = unwatched, *, observed: bool = True
) -> Generator[EndedRun, None, None]:
    """Do what `export_all` does, and yield more of each run."""
    with ExitStack() as stack:
        observer, codes = Observer(), list[ExitCode]()
        if observed:
            told = _observed(assembly.settings, assembly.asked_source, assembly.environ, assembly.clock)
            observer, codes = stack.enter_context(told)

        def run(mine: Assembly, account: str) -> RunReport:
            with follow(account) as listeners:
                return export(mine, account, replace(listeners, trace=observer.trace))

        accounts = stack.enter_context(accounts_of(assembly))
        for place, report in stack.enter_context(closing(side_by_side(assembly, accounts, run))):
            _log_end(report)
            checkpoint, ends_at = checkpoint_of(assembly, report), _sign_in_ends_at(assembly, report)
            observer.ended(report, checkpoint, ends_at)
            codes.append(report.exit_code)
            yield EndedRun(place, report, checkpoint)


@contextmanager
def _observed(
    settings: Settings, source: str, environ: Mapping[str, str], clock: Callable[[], datetime]
) -> Iterator[tuple[Observer, list[ExitCode]]]:
    """Let all who observe runs know that they begin, and how they end; yield the observer and the list for exit codes.

    The metrics file says how it ended also where no collector can be told.
    """
    file, name = settings.metrics_file, settings.name_in_metrics
    codes: list[ExitCode] = []
    with (
        pinging(settings.ping_url) as pinged,
        Observer(file, export=name).concluding(source, clock) as filed,
        observing(file, settings.otlp_endpoint, environ, name) as observer,
        replace(observer, file=None).concluding(source, clock) as sent,
    ):
        yield observer, codes
        for told in (pinged, filed, sent):
            told.extend(codes)


def checkpoint_of(assembly: Assembly, report: RunReport) -> Checkpoint | None:
    """Return the checkpoint that a run left; that it cannot be read now changes nothing about the run."""
    with suppress(CfauditError):
        found = assembly.store.load(report.stream.id)
        return found.checkpoint if found else None
    return None


def _sign_in_ends_at(assembly: Assembly, report: RunReport) -> datetime | None:
    """Return when a person must sign in again, if that is known; log a warning when it is soon."""
    read_by = next((one for one in candidates(assembly) if one.source_name == report.stream.source), assembly)
    if read_by.credential.kind == "oauth":
        with suppress(CfauditError):  # the run is over, and how it went is known
            grant = current_sign_in(read_by.settings, read_by.server_url, assembly.clock())
            return grant.grant_expires_at if grant else None
    return None


def _log_end(report: RunReport) -> None:
    facts = {
        "account": report.stream.account_id or UNKNOWN_ACCOUNT,
        "source": report.stream.source,
        "stream": report.stream.id,
        "events": report.events,
        "rows": sum(sink.rows for sink in report.sinks),
        "calls": report.calls,
        "gaps": len(report.gaps),
        "trimmed": report.trimmed,
        "completed": report.completed,
        "still_trimmed": report.still_trimmed,
        "seconds": round((report.finished_at - report.started_at).total_seconds(), 3),
        "exit_code": int(report.exit_code),
    }
    _LOG.info("run finished", extra=facts)
    if report.trimmed:
        extra = {
            "account": facts["account"],
            "events": report.trimmed,
            "do": "later runs deliver them; --recover all waits",
        }
        _LOG.warning("exported without recovered columns: call budget exhausted", extra=extra)
