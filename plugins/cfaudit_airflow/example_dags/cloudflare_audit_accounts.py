"""Each hour, all accounts of a token, fifty in a task: a task for each account would be all overhead."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, AssetAlias
from airflow.timetables.trigger import CronTriggerTimetable

from cfaudit_airflow.operators import CloudflareAuditExportOperator, CloudflareAuditPlanOperator

with DAG(
    "cloudflare_audit_accounts",
    schedule=CronTriggerTimetable("17 * * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 8, "retry_delay": timedelta(minutes=1), "retry_exponential_backoff": 2.0},
    tags=["cloudflare"],
) as dag:
    plan = CloudflareAuditPlanOperator(task_id="plan", slices=0, accounts_per_task=50)
    CloudflareAuditExportOperator.partial(
        task_id="export",
        sinks="parquet",
        # One budget for all tasks, wherever they run; the checkpoints must be where all workers see them.
        options={"parallel": 8, "budget.store": "checkpoint"},
        max_wait="5m",
        outlets=[AssetAlias("cloudflare_audit")],
    ).expand_kwargs(plan.output)
