"""One account, exported once: by its source, and by the other one where that is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cfaudit_export.app.compose import Assembly, RunListeners, connected, opened_sinks
from cfaudit_export.app.failover import COUNTERS, account_to_go_on_with, choose, is_gone, joined, swapped
from cfaudit_export.app.manifests import manifest_places
from cfaudit_export.core.causes import shortage_of
from cfaudit_export.core.model import Connection, RunReport
from cfaudit_export.errors import CfauditError, ExitCode
from cfaudit_export.plugin.blame import report_to
from cfaudit_export.plugin.interfaces import Sink, Source
from cfaudit_export.plugin.resources import StopSignal

if TYPE_CHECKING:
    from cfaudit_export.pipeline.run_context import ManifestPlace

_LOG = logging.getLogger(__name__)


def export(assembly: Assembly, account: str, listeners: RunListeners | None = None) -> RunReport:
    """Run one account once; what stops it is in the report, so that other accounts can follow.

    Raises:
        StoppedError: the run was told to end. No observer hears of it.
    """
    listeners = _stoppable(assembly.shared.stop, listeners or RunListeners())
    with listeners.trace("run") as facts:
        report = _reported(assembly, account, lambda: _carried_through(assembly, account, listeners))
        assembly.shared.stop.check()
        facts.update(account=report.stream.account_id, source=report.stream.source, stream=report.stream.id)
        facts.update(exit_code=int(report.exit_code), events=report.events, calls=report.calls)
    if report.error:
        assembly.shared.close()
    assembly.plugins.after_run(report)
    return report


def _stoppable(stop: StopSignal, listeners: RunListeners) -> RunListeners:
    """Return the listeners, and end the run where it tells them of something after it was told to end."""

    def trace(step: str) -> AbstractContextManager[dict[str, Any]]:
        stop.check()
        return listeners.trace(step)

    return replace(listeners, trace=trace)


def _carried_through(assembly: Assembly, account: str, listeners: RunListeners) -> RunReport:
    """Run by the source of the account; where its server is gone, once more by the other one."""
    chosen = choose(assembly, account)
    report = _exported(chosen, account, listeners)
    if chosen.otherwise is None or not is_gone(report):
        return report
    other, going_on = replace(swapped(chosen), otherwise=None), account_to_go_on_with(chosen, account, report)
    if going_on is None:
        error = f"{report.error}; source '{other.source_name}' could go on: name the account with --account"
        return replace(report, error=error)
    facts = {"source": chosen.source_name, "goes_on": other.source_name, "error": report.error}
    _LOG.warning("source unavailable, continuing with another one", extra=facts)
    second = _exported(other, going_on, listeners)
    return joined(report, second, source=other.source_name)


def _exported(assembly: Assembly, account: str, listeners: RunListeners) -> RunReport:
    counted: dict[str, Any] = {}

    def counters(facts: dict[str, Any]) -> None:
        counted.update(facts)
        listeners.counters(facts)

    told = replace(listeners, counters=counters)

    def run() -> RunReport:
        with (
            opened_sinks(assembly) as sinks,
            manifest_places(assembly.settings, assembly.plugins, sinks, assembly.destinations) as places,
            connected(assembly, account, told) as (source, connection),
        ):
            return _run(assembly, sinks, source, connection, manifests=places, listeners=told)

    report = _reported(assembly, account, run)
    extra = {name: value for name, value in counted.items() if name in COUNTERS}
    return replace(report, extra={**report.extra, **extra})


def _reported(assembly: Assembly, account: str, run: Callable[[], RunReport]) -> RunReport:
    """Return the report of a run, also of one that an error ends."""
    started_at = assembly.clock()
    try:
        return run()
    except CfauditError as error:
        assembly.shared.stop.check()
        said, code, retry_after = str(error), error.exit_code, error.retry_after_seconds
    except Exception as error:  # noqa: BLE001  # a fault met with one account is not to stop the others
        assembly.shared.stop.check()  # what was being done was cancelled
        said, code, retry_after = shortage_of(error), ExitCode.TRY_AGAIN, None
        if not said:
            _LOG.exception("unexpected error")
            said, code = f"{type(error).__name__}; {report_to(error, 'with the traceback above')}", ExitCode.BUG
    return RunReport(
        assembly.stream(account),
        started_at,
        assembly.clock(),
        None,
        error=said,
        exit_code=code,
        retry_after_seconds=retry_after,
    )


def _run(
    assembly: Assembly,
    sinks: Mapping[str, Sink],
    source: Source,
    connection: Connection,
    *,
    manifests: Mapping[str, ManifestPlace],
    listeners: RunListeners,
) -> RunReport:
    from cfaudit_export.pipeline.ledger import require_same_name
    from cfaudit_export.pipeline.run import run_stream
    from cfaudit_export.pipeline.run_context import RunContext
    from cfaudit_export.pipeline.slices import LockWait, run_slice

    settings, stream = assembly.settings, assembly.stream(connection.account_id)
    listeners.counters({"events": 0})  # connected: from here on there is something to count
    is_sure = connection.account_verified or settings.trust_account
    require_same_name(assembly.store, stream, is_named=bool(settings.account), is_sure=is_sure)
    if not is_sure:  # --trust-account vouches for it
        _LOG.warning("account not verified: the server names no account", extra={"account": stream.account_id})
    context = RunContext(
        stream=stream,
        connection=connection,
        source=source,
        sinks=sinks,
        store=assembly.store,
        staging=assembly.staging,
        clock=assembly.clock,
        request=assembly.request,
        destinations=assembly.destinations,
        transforms=assembly.transforms,
        identity=assembly.identity,
        manifests=manifests,
        after_load=assembly.plugins.after_load,
        progress=listeners.progress,
        trace=listeners.trace,
        redact=assembly.redact,
    )
    report = run_slice(context, LockWait.within(settings.max_wait)) if context.stream.slice else run_stream(context)
    return replace(report, extra=report.extra | {"account_verified": connection.account_verified})
