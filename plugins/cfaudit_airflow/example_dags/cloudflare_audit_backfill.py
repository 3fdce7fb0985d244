"""A long time in slices, beside each other on many workers: triggered by hand, with the time as parameters."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, AssetAlias, Param

from cfaudit_airflow.operators import CloudflareAuditExportOperator, CloudflareAuditPlanOperator

with DAG(
    "cloudflare_audit_backfill",
    schedule=None,
    params={
        "since": Param("2026-01-01", type="string", description="start of the time to export"),
        "until": Param("2026-11-01", type="string", description="end of the time to export, exclusive"),
        "slices": Param(12, type="integer", minimum=1, description="slices for each account"),
    },
    default_args={"retries": 8, "retry_delay": timedelta(minutes=1), "retry_exponential_backoff": 2.0},
    tags=["cloudflare"],
) as dag:
    plan = CloudflareAuditPlanOperator(
        task_id="plan", since="{{ params.since }}", until="{{ params.until }}", slices="{{ params.slices }}"
    )
    CloudflareAuditExportOperator.partial(
        task_id="export",
        sinks="parquet",
        options={"recover": "all"},  # wait for calls rather than leave columns out
        max_wait="5m",
        pool="cloudflare_audit",
        map_index_template="{{ task.account }} {{ task.since }}",
        outlets=[AssetAlias("cloudflare_audit")],
    ).expand_kwargs(plan.output)
