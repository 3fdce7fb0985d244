"""The Airflow provider: what it offers, as Airflow asks for it. Nothing here imports Airflow, nor anything heavy.

A DAG imports from `cfaudit_airflow.operators`, `cfaudit_airflow.hooks` and `cfaudit_airflow.assets`.
"""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "cloudflare_audit"

_INTEGRATION = "Cloudflare audit logs"


def get_provider_info() -> dict[str, Any]:
    """Return the description of the provider, as the entry point `apache_airflow_provider`."""
    return {
        "package-name": "cfaudit-export",
        "name": _INTEGRATION,
        "description": "Exports Cloudflare audit logs: complete, once, honest about what is missing.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://developers.cloudflare.com/fundamentals/account/account-security/audit-logs/",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["cfaudit_airflow.operators", "cfaudit_airflow.alerts"],
            }
        ],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["cfaudit_airflow.hooks"]}],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": "cfaudit_airflow.hooks.CloudflareAuditHook",
                "hook-name": _INTEGRATION,
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "port", "schema"],
                    "relabeling": {"password": "API token", "host": "Server URL", "extra": "Settings"},
                    "placeholders": {
                        "password": "Account Settings: Read",
                        "host": "empty for Cloudflare's",
                        "extra": '{"state_dir": "/mnt/shared/cfaudit", "sinks.parquet.path": "/mnt/shared/audit"}',
                    },
                },
            }
        ],
    }
