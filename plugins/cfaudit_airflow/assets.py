"""The assets that exports update, for DAGs that are to run after them."""

from __future__ import annotations

from airflow.sdk import Asset

SOURCE = "auditlogs"


def audit_asset(account: str, source: str = SOURCE) -> Asset:
    """Return the asset that stands for the stream of an account, whatever its sinks."""
    return Asset(name=f"cloudflare-audit-{account}-{source}", uri=f"cloudflare-audit://{account}/{source}")
