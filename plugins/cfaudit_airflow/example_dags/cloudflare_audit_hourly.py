"""Every hour, the audit events of the hour, for every account that the credential can use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, AssetAlias, CronDataIntervalTimetable

from cfaudit_airflow.operators import CloudflareAuditExportOperator, CloudflareAuditPlanOperator

with DAG(
    "cloudflare_audit_hourly",
    # A cron expression alone has intervals of no length.
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # two runs of one stream exclude each other
    default_args={"retries": 8, "retry_delay": timedelta(minutes=1), "retry_exponential_backoff": 2.0},
    tags=["cloudflare"],
) as dag:
    accounts = CloudflareAuditPlanOperator(task_id="accounts")
    CloudflareAuditExportOperator.partial(
        task_id="export",
        sinks="parquet",
        options={"recover": "all"},  # wait for calls rather than leave columns out
        max_wait="5m",
        pool="cloudflare_audit",  # one slot: the accounts share the budget of one credential
        outlets=[AssetAlias("cloudflare_audit")],
    ).expand_kwargs(accounts.output)
