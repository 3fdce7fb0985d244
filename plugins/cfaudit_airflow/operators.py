"""The operators: one exports, the other says into which exports a task is to be mapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from logging import Logger
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowRescheduleException

from cfaudit_airflow.assets import audit_asset
from cfaudit_airflow.hooks import CloudflareAuditHook
from cfaudit_airflow.outcomes import RetryAfter, failing, failure, problems_of, trimmed
from cfaudit_export import ExitCode, worst

if TYPE_CHECKING:
    from cfaudit_export import RunReport
    from cfaudit_export.api import Assembly

_SETTLED = timedelta(seconds=1)  # the clock of the scheduler may be a little behind


class CloudflareAuditExportOperator(BaseOperator):  # type: ignore[misc]  # typed only where Airflow is installed
    """Export audit events into each sink, once, and return the report.

    Without `since` and `until` a run exports the data interval of its DAG run, when it has one: `[start, end)`, and
    latecomers of intervals before it. It waits for the interval to be settled without occupying a worker. Without a
    data interval (an interval of no length, or none, as in a run triggered by hand) the checkpoint decides, as on the
    command line.

    Args:
        account: the account or accounts to export; None for the one that the credential sees.
        since: oldest time wanted, as on the command line.
        until: time to stop before.
        slice: export from since to until beside other slices of the account; `CloudflareAuditPlanOperator` gives them.
        sinks: names of the sinks, for example `["s3"]`.
        options: further settings by their keys, for example `{"sinks.s3.bucket": "audit"}`.
        config: path of a TOML file on the worker.
        max_wait: longest time that a run waits itself, as in `5m`; after that Airflow does, and the worker is free.
        data_interval: False lets the checkpoint decide also where there is a data interval.
        on_gaps: what gaps and refused events mean: `fail` the task, or `warn` and succeed.
        on_trimmed: what events without recovered columns mean, for which the call budget was exhausted: `fail` the
            task, or `warn` and succeed. They are delivered either way. With `{"recover": "all"}` in the options runs
            wait for calls instead.
        cloudflare_audit_conn_id: id of the connection; None for the worker's environment alone.
        kwargs: what every operator takes; `retry_policy` is `RetryAfter` by default, and `outlets` the assets of the
            accounts that are named here.
    """

    template_fields = (
        "account",
        "since",
        "until",
        "sinks",
        "options",
        "config",
        "max_wait",
        "cloudflare_audit_conn_id",
    )
    template_fields_renderers = {"options": "json"}  # noqa: RUF012  # as every operator has it
    ui_color = "#f6d6b8"

    def __init__(
        self,
        *,
        account: str | Sequence[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        slice: bool = False,  # noqa: A002  # the name that `plan --slices` gives it
        sinks: str | Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        config: str | None = None,
        max_wait: str | None = None,
        data_interval: bool = True,
        on_gaps: Literal["fail", "warn"] = "fail",
        on_trimmed: Literal["fail", "warn"] = "warn",
        cloudflare_audit_conn_id: str | None = CloudflareAuditHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        kwargs["retry_policy"] = kwargs.get("retry_policy") or RetryAfter()
        if not kwargs.get("outlets"):
            kwargs["outlets"] = [audit_asset(one) for one in _listed(account) if len(one) == 32]
        super().__init__(**kwargs)
        for name, value in (("on_gaps", on_gaps), ("on_trimmed", on_trimmed)):
            if value not in {"fail", "warn"}:
                raise ValueError(f"{name} is 'fail' or 'warn', not '{value}'")
        self.account = account
        self.since = since
        self.until = until
        self.slice = slice
        self.sinks = sinks
        self.options = options
        self.config = config
        self.max_wait = max_wait
        self.data_interval = data_interval
        self.on_gaps = on_gaps
        self.on_trimmed = on_trimmed
        self.cloudflare_audit_conn_id = cloudflare_audit_conn_id
        self._is_running = False

    def execute(self, context: Any) -> dict[str, Any]:
        """Export, and return the report.

        Raises:
            ExportAgainError: a sink or the source is down, or the server throttles: Airflow tries again.
            AirflowFailException: a person has to act first.
            AirflowRescheduleException: the data interval is not settled yet.
        """
        from cfaudit_export.api import as_plain, export_all, logging_through

        window = None if self.since or self.until or not self.data_interval else _data_interval(context)
        hook = CloudflareAuditHook(self.cloudflare_audit_conn_id)
        with failing(hook.redact):
            assembly = self._assembly(hook, window)
        if window:
            assembly = replace(assembly, request=replace(assembly.request, latecomers=True))
            self._wait_until_settled(assembly, window[1])
        self._is_running = True
        try:
            with failing(hook.redact), logging_through(_log_to(self.log, hook.redact)):
                reports = tuple(export_all(assembly))
        finally:
            self._is_running = False
        report: dict[str, Any] = {"exit_code": int(worst(one.exit_code for one in reports)), "runs": as_plain(reports)}
        for one in report["runs"]:
            for sink in one["sinks"]:
                sink["locations"] = len(sink["locations"])  # thousands of names are not for the database of Airflow
        # A server may have said a secret back, and Airflow masks its logs alone.
        report = _redacted(report, hook.redact)
        self._judge(context, reports, report, hook.redact)
        self._announce(context, reports)
        return report

    def on_kill(self) -> None:
        """Break off as Ctrl-C does: what was finished is kept, and the next try goes on from there."""
        if self._is_running:  # after a timeout Airflow calls this when the run is over
            raise KeyboardInterrupt("the task was told to stop")

    def _assembly(self, hook: CloudflareAuditHook, window: tuple[datetime, datetime] | None) -> Assembly:
        since, until = (moment.isoformat() for moment in window) if window else (self.since, self.until)
        flags = {
            "account": list(_listed(self.account)),
            "since": since,
            "until": until,
            "slice": self.slice or None,
            "sink": list(_listed(self.sinks)),
            "max_wait": self.max_wait,
        }
        given = {name: value for name, value in flags.items() if value}
        return hook.prepare(given, self.options, self.config)

    def _wait_until_settled(self, assembly: Assembly, end: datetime) -> None:
        settled_at = end + assembly.settings.settle_lag
        if assembly.clock() < settled_at:
            self.log.info("the data interval is settled at %s; coming back then", settled_at.isoformat())
            raise AirflowRescheduleException(settled_at + _SETTLED)

    def _judge(
        self,
        context: Any,
        reports: Sequence[RunReport],
        report: Mapping[str, Any],
        redact: Callable[[str], str],
    ) -> None:
        code = worst(one.exit_code for one in reports)
        problems = redact("; ".join(problem for one in reports for problem in problems_of(one)))
        if code is ExitCode.INCOMPLETE and self.on_gaps == "warn":
            self.log.warning("delivered, but not complete: %s", problems)
            code = ExitCode.OK
        if code is ExitCode.OK and self.on_trimmed == "fail" and (problems := trimmed(reports)):
            code = ExitCode.INCOMPLETE
        if code is ExitCode.OK:
            return
        context["ti"].xcom_push("report", report)
        delays = [one.retry_after_seconds for one in reports if one.retry_after_seconds]
        raise failure(code, problems, max(delays, default=None))

    def _announce(self, context: Any, reports: Sequence[RunReport]) -> None:
        """Tell downstream DAGs of new events, through an alias where the accounts are known only now."""
        events = context["outlet_events"]
        for one in reports:
            rows = sum(sink.rows for sink in one.sinks)
            asset = audit_asset(one.stream.account_id, one.stream.log or one.stream.source)
            for outlet in self.outlets:
                if isinstance(outlet, AssetAlias) and rows:
                    events[outlet].add(asset, extra={"rows": rows})
                elif outlet == asset:
                    events[outlet].extra["rows"] = rows


class CloudflareAuditPlanOperator(BaseOperator):  # type: ignore[misc]  # typed only where Airflow is installed
    """Return the arguments of exports that a task is to be mapped into: one for each account, or for each slice.

        plan = CloudflareAuditPlanOperator(task_id="plan", slices=12, since="2026-01-01", until="2026-07-01")
        CloudflareAuditExportOperator.partial(task_id="export", sinks="s3").expand_kwargs(plan.output)

    Args:
        slices: into how many slices the time of each account is cut, or `auto` for as many as are worth it; 0 for no
            slices, and accounts alone.
        accounts_per_task: so many accounts go into one task, where they are not cut.
        account: the account or accounts; None for all that the credential can use.
        since: oldest time wanted; 30 days ago by default.
        until: time to stop before; by default, and at most, as new as is settled.
        options: further settings by their keys.
        config: path of a TOML file on the worker.
        cloudflare_audit_conn_id: id of the connection; None for the worker's environment alone.
        kwargs: what every operator takes.
    """

    template_fields = (
        "slices",
        "accounts_per_task",
        "account",
        "since",
        "until",
        "options",
        "config",
        "cloudflare_audit_conn_id",
    )
    template_fields_renderers = {"options": "json"}  # noqa: RUF012  # as every operator has it
    ui_color = "#f6d6b8"

    def __init__(
        self,
        *,
        slices: int | str = 0,
        accounts_per_task: int | str = 1,
        account: str | Sequence[str] | None = None,
        since: str | None = None,
        until: str | None = None,
        options: Mapping[str, Any] | None = None,
        config: str | None = None,
        cloudflare_audit_conn_id: str | None = CloudflareAuditHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        kwargs["retry_policy"] = kwargs.get("retry_policy") or RetryAfter()
        super().__init__(**kwargs)
        self.slices = slices
        self.accounts_per_task = accounts_per_task
        self.account = account
        self.since = since
        self.until = until
        self.options = options
        self.config = config
        self.cloudflare_audit_conn_id = cloudflare_audit_conn_id

    def execute(self, context: Any) -> list[dict[str, Any]]:  # noqa: ARG002  # the signature is Airflow's
        """Return the arguments. Raises what the export raises."""
        from cfaudit_export.api import accounts, logging_through, slices

        flags = {"account": list(_listed(self.account)), "since": self.since, "until": self.until}
        hook = CloudflareAuditHook(self.cloudflare_audit_conn_id)
        given = {name: value for name, value in flags.items() if value}
        with failing(hook.redact):
            assembly = hook.prepare(given, self.options, self.config, needs_sink=False)
            with logging_through(_log_to(self.log, hook.redact)):
                if self.slices == "auto":
                    return slices(assembly, "auto")
                if count := int(self.slices):
                    return slices(assembly, count)
                return _chunks(accounts(assembly), int(self.accounts_per_task))


def _chunks(found: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Return the arguments of a task for so many accounts each; of one its account alone."""
    if size == 1:
        return [{"account": one} for one in found]
    return [{"account": list(found[start : start + size])} for start in range(0, len(found), max(size, 1))]


def _listed(given: str | Sequence[str] | None) -> Sequence[str]:
    return [given] if isinstance(given, str) and given else given or ()


def _data_interval(context: Any) -> tuple[datetime, datetime] | None:
    """Return the data interval of the DAG run; None where it has none, or one of no length."""
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    return (start, end) if start and end and start < end else None


def _log_to(log: Logger, redact: Callable[[str], str]) -> Callable[[int, str], None]:
    """Return what writes to the log of a task, without secrets."""
    return lambda level, text: log.log(level, redact(text))


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Return plain values without secrets in their texts."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redacted(one, redact) for key, one in value.items()}
    return [_redacted(one, redact) for one in value] if isinstance(value, list | tuple) else value
