"""DAGs of one export, in which something is to happen that does not happen every day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable

from cfaudit_airflow.alerts import CloudflareAuditAlertOperator
from cfaudit_airflow.operators import CloudflareAuditExportOperator, CloudflareAuditPlanOperator

LONG = timedelta(hours=1)  # longer than any test: who waits so long was not told when to try again

with DAG("unsettled", schedule=None, params=dict.fromkeys(("account", "since", "until"), "")) as unsettled:
    CloudflareAuditExportOperator(
        task_id="export",
        account="{{ params.account }}",
        since="{{ params.since }}",
        until="{{ params.until }}",
        slice=True,
        sinks="parquet",
        retries=1,
        retry_delay=LONG,
    )

with DAG("refused", schedule=None) as refused:
    CloudflareAuditExportOperator(
        task_id="export", sinks="parquet", cloudflare_audit_conn_id="refused", retries=3, retry_delay=LONG
    )

with DAG(
    "interval",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
) as interval:
    CloudflareAuditExportOperator(task_id="export", sinks="parquet")

with DAG("by_hand", schedule="0 0 * * *", start_date=datetime(2020, 1, 1, tzinfo=UTC), catchup=False) as by_hand:
    CloudflareAuditExportOperator(task_id="export", sinks=["parquet"])

with DAG("gaps_allowed", schedule=None) as gaps_allowed:
    CloudflareAuditExportOperator(task_id="export", sinks="parquet", on_gaps="warn")

with DAG("said_back", schedule=None) as said_back:
    CloudflareAuditExportOperator(
        task_id="one", account="0" * 32, sinks="parquet", cloudflare_audit_conn_id="said_back"
    )
    CloudflareAuditExportOperator(task_id="all", account="all", sinks="parquet", cloudflare_audit_conn_id="said_back")
    CloudflareAuditPlanOperator(task_id="plan", account="all", cloudflare_audit_conn_id="said_back")

with DAG("told", schedule=None) as told:
    CloudflareAuditAlertOperator(task_id="alert", options={"alert.severity": "low"})

with DAG("too_severe", schedule=None, params={"place": ""}) as too_severe:
    CloudflareAuditAlertOperator(
        task_id="alert", data="{{ params.place }}", fail_on="high", retries=3, retry_delay=LONG
    )
