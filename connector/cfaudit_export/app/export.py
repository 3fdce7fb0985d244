"""One account, exported once: by its source, and by the other one where that is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cfaudit_export.app.compose import Watch, Workshop, connected, opened_sinks
from cfaudit_export.app.failover import COUNTERS, account_to_go_on_with, choose, is_gone, joined, swapped
from cfaudit_export.core.model import Connection, RunReport
from cfaudit_export.errors import CfauditError, ExitCode
from cfaudit_export.plugin.blame import report_to
from cfaudit_export.plugin.interfaces import Sink, Source

_LOG = logging.getLogger(__name__)


def export(workshop: Workshop, account: str, watch: Watch | None = None) -> RunReport:
    """Run one account once; what stops it is in the report, so that other accounts can follow."""
    watch = watch or Watch()
    with watch.trace("run") as facts:
        report = _reported(workshop, account, lambda: _carried_through(workshop, account, watch))
        facts.update(account=report.stream.account_id, source=report.stream.source, stream=report.stream.id)
        facts.update(exit_code=int(report.exit_code), events=report.events, calls=report.calls)
    if report.error:
        workshop.shared.close()
    workshop.plugins.after_run(report)
    return report


def _carried_through(workshop: Workshop, account: str, watch: Watch) -> RunReport:
    """Run by the source of the account; where its server is gone, once more by the other one."""
    chosen = choose(workshop, account)
    report = _exported(chosen, account, watch)
    if chosen.otherwise is None or not is_gone(report):
        return report
    other, going_on = replace(swapped(chosen), otherwise=None), account_to_go_on_with(chosen, account, report)
    if going_on is None:
        error = f"{report.error}; source '{other.source_name}' could go on: name the account with --account"
        return replace(report, error=error)
    facts = {"source": chosen.source_name, "goes_on": other.source_name, "error": report.error}
    _LOG.warning("the source is gone, another one goes on", extra=facts)
    second = _exported(other, going_on, watch)
    return joined(report, second, source=other.source_name)


def _exported(workshop: Workshop, account: str, watch: Watch) -> RunReport:
    counted: dict[str, Any] = {}

    def counters(facts: dict[str, Any]) -> None:
        counted.update(facts)
        watch.counters(facts)

    told = replace(watch, counters=counters)

    def run() -> RunReport:
        with opened_sinks(workshop) as sinks, connected(workshop, account, told) as (source, connection):
            return _run(workshop, sinks, source, connection, told)

    report = _reported(workshop, account, run)
    extra = {name: value for name, value in counted.items() if name in COUNTERS}
    return replace(report, extra={**report.extra, **extra})


def _reported(workshop: Workshop, account: str, run: Callable[[], RunReport]) -> RunReport:
    """Return the report of a run, also of one that an error ends."""
    started_at = workshop.clock()
    try:
        return run()
    except CfauditError as error:
        said, code, retry_after = str(error), error.exit_code, error.retry_after_seconds
    except Exception as error:  # noqa: BLE001  # a fault met with one account is not to stop the others
        _LOG.exception("unexpected error")
        said, code = f"{type(error).__name__}; {report_to(error, 'with the traceback above')}", ExitCode.BUG
        retry_after = None
    return RunReport(
        workshop.stream(account),
        started_at,
        workshop.clock(),
        None,
        error=said,
        exit_code=code,
        retry_after_seconds=retry_after,
    )


def _run(
    workshop: Workshop, sinks: Mapping[str, Sink], source: Source, connection: Connection, watch: Watch
) -> RunReport:
    from cfaudit_export.pipeline.job import Job
    from cfaudit_export.pipeline.ledger import require_same_name
    from cfaudit_export.pipeline.run import run_stream
    from cfaudit_export.pipeline.slices import Waiting, run_slice

    settings, stream = workshop.settings, workshop.stream(connection.account_id)
    watch.counters({"events": 0})  # connected: from here on there is something to count
    is_sure = connection.account_verified or settings.trust_account
    require_same_name(workshop.store, stream, is_named=bool(settings.account), is_sure=is_sure)
    if not is_sure:  # --trust-account vouches for it
        _LOG.warning("account not verified: the server names no account", extra={"account": stream.account_id})
    job = Job(
        stream=stream,
        connection=connection,
        source=source,
        sinks=sinks,
        store=workshop.store,
        staging=workshop.staging,
        clock=workshop.clock,
        since=settings.since,
        until=settings.until,
        settle_lag=settings.settle_lag,
        rescan=settings.rescan,
        destinations=workshop.destinations,
        adopt_destination=settings.adopt_destination,
        only_gaps=workshop.only_gaps,
        latecomers=workshop.latecomers,
        fail_on_trimmed=settings.fail_on_trimmed,
        transforms=workshop.transforms,
        after_load=workshop.plugins.after_load,
        progress=watch.progress,
        trace=watch.trace,
        redact=workshop.redact,
    )
    report = run_slice(job, Waiting.within(settings.max_wait)) if job.stream.slice else run_stream(job)
    return replace(report, extra=report.extra | {"account_verified": connection.account_verified})
