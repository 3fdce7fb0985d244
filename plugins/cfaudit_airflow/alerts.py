"""The operator that tells what deserves a look, once; for a DAG that an export's asset triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from airflow.sdk import BaseOperator

from cfaudit_airflow.hooks import CloudflareAuditHook
from cfaudit_airflow.outcomes import RetryAfter, failing, failure
from cfaudit_export import ExitCode


class CloudflareAuditAlertOperator(BaseOperator):  # type: ignore[misc]  # typed only where Airflow is installed
    """Judge what arrived in exported files since the last time, and tell each finding once to each channel.

    Channels and rules are those of the settings, as on the command line; without a channel, findings are warnings in
    the log of the task. It needs no credential of Cloudflare.

    Args:
        data: the exported files; None for where the sink of the settings writes them.
        account: only this account, or these.
        fail_on: fail the task when something new is of this severity or worse; None for never.
        on_gaps: what gaps in the period mean: `fail` the task, or `warn` and succeed.
        options: further settings by their keys, for example `{"alert.severity": "high"}`.
        config: path of a TOML file on the worker.
        cloudflare_audit_conn_id: id of the connection; None for the worker's environment alone.
        kwargs: what every operator takes; `retry_policy` is `RetryAfter` by default.
    """

    template_fields = ("data", "account", "options", "config", "cloudflare_audit_conn_id")
    template_fields_renderers = {"options": "json"}  # noqa: RUF012  # as every operator has it
    ui_color = "#f6d6b8"

    def __init__(
        self,
        *,
        data: str | None = None,
        account: str | Sequence[str] | None = None,
        fail_on: Literal["low", "medium", "high"] | None = None,
        on_gaps: Literal["fail", "warn"] = "warn",
        options: Mapping[str, Any] | None = None,
        config: str | None = None,
        cloudflare_audit_conn_id: str | None = CloudflareAuditHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        kwargs["retry_policy"] = kwargs.get("retry_policy") or RetryAfter()
        super().__init__(**kwargs)
        if fail_on not in {None, "low", "medium", "high"}:
            raise ValueError(f"fail_on is 'low', 'medium', 'high' or None, not '{fail_on}'")
        if on_gaps not in {"fail", "warn"}:
            raise ValueError(f"on_gaps is 'fail' or 'warn', not '{on_gaps}'")
        self.data = data
        self.account = account
        self.fail_on = fail_on
        self.on_gaps = on_gaps
        self.options = options
        self.config = config
        self.cloudflare_audit_conn_id = cloudflare_audit_conn_id

    def execute(self, context: Any) -> dict[str, Any]:  # noqa: ARG002  # the signature is Airflow's
        """Judge and tell, and return how many findings were new, by severity, and how many messages went where.

        Raises:
            ExportAgainError: a channel is down, or the data cannot be reached: Airflow tries again.
            AirflowFailException: a person has to act first, or something is as severe as `fail_on`.
        """
        from cfaudit_export.api import alert

        hook = CloudflareAuditHook(self.cloudflare_audit_conn_id)
        accounts = [self.account] if isinstance(self.account, str) and self.account else self.account or ()
        with failing(hook.redact):
            settings, environ, hide = hook.settings(self.options, self.config)
            report = alert(
                settings,
                environ=environ,
                clock=lambda: datetime.now(UTC),
                hide=hide,
                data=self.data,
                accounts=accounts,
                fail_on=self.fail_on,
                give=lambda message: self.log.warning("%s", hook.redact(message.text)),
            )
        for one in report.failures:
            self.log.error("%s", hook.redact(one))
        code = report.exit_code
        if report.gaps:
            self.log.warning("gaps in the period: %d; what could not be read was not judged", len(report.gaps))
        if code is ExitCode.INCOMPLETE and self.on_gaps == "warn":
            code = ExitCode.OK
        if code is not ExitCode.OK:
            titles = "; ".join(f"{one.severity}: {one.title} ({one.key})" for one in report.found)
            raise failure(code, hook.redact("; ".join(report.failures) or titles or "gaps in the period"))
        severities = ("high", "medium", "low")
        found = {name: sum(one.severity == name for one in report.found) for name in severities}
        return {"found": found, "delivered": dict(report.delivered), "held": report.held}
