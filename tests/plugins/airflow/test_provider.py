"""What Airflow asks of a provider, what its page says, and how light it is; most of it without Airflow."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cfaudit_airflow import get_provider_info
from cfaudit_export.errors import ExitCode

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "plugins" / "cfaudit_airflow"
PAGE = (ROOT / "docs" / "airflow.md").read_text()
HEAVY = ("pyarrow", "mcp", "mcp_types", "httpx2", "authlib", "msgspec", "pluggy", "boto3", "google.cloud", "duckdb")


def arguments(operator: str, module: str = "operators.py") -> dict[str, str]:
    """The arguments of an operator and their defaults, from its source."""
    tree = ast.parse((PACKAGE / module).read_text())
    [made] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == operator]
    [init] = [node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    defaults = [ast.unparse(one) if one else "" for one in init.args.kw_defaults]
    names = {"None": "", "()": "", "CloudflareAuditHook.default_conn_name": "cloudflare_audit_default"}
    return {
        argument.arg: names.get(default, default.strip("'"))
        for argument, default in zip(init.args.kwonlyargs, defaults, strict=True)
    }


def templated(operator: str) -> set[str]:
    tree = ast.parse((PACKAGE / "operators.py").read_text())
    [made] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == operator]
    [fields] = [
        node.value
        for node in made.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "template_fields"
    ]
    return set(ast.literal_eval(fields))


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_page_lists_every_argument_with_its_default() -> None:
    told = dict(
        re.findall(r"^\| `(\w+)` \| *`?([^`|]*?)`? *\|", section("`CloudflareAuditExportOperator`"), re.MULTILINE)
    )
    assert told == arguments("CloudflareAuditExportOperator")
    alert = section("`CloudflareAuditAlertOperator`")
    assert all(f"`{name}`" in alert for name in arguments("CloudflareAuditAlertOperator", "alerts.py"))
    plan = section("Backfill: slices on many workers")
    assert all(f"`{name}`" in plan or f"`{name}=" in plan for name in arguments("CloudflareAuditPlanOperator"))


def test_the_page_says_what_is_templated() -> None:
    operator = "CloudflareAuditExportOperator"
    assert arguments(operator).keys() - templated(operator) == {
        "slice",
        "data_interval",
        "on_gaps",
        "on_trimmed",
    }
    assert "All but `slice`, `data_interval`, `on_gaps` and `on_trimmed` are templated" in PAGE


def test_the_page_says_what_becomes_of_every_exit_code() -> None:
    told = dict(re.findall(r"^\| (\d+) \| ([^|]+?) \|$", section("What a task does when it fails"), re.MULTILINE))
    retried = {code for code, what in told.items() if what.startswith("retries")}
    source = (PACKAGE / "outcomes.py").read_text()
    assert told.keys() == {str(int(code)) for code in ExitCode}
    assert "RETRIED = frozenset({ExitCode.SINK_DOWN, ExitCode.TRY_AGAIN})" in source
    assert retried == {str(int(code)) for code in (ExitCode.SINK_DOWN, ExitCode.TRY_AGAIN)}


def test_the_description_names_what_exists() -> None:
    info = get_provider_info()
    for kind in ("operators", "hooks"):
        [listed] = info[kind]
        for module in listed["python-modules"]:
            assert (PACKAGE.parent / module.replace(".", "/")).with_suffix(".py").exists()
    [connection] = info["connection-types"]
    assert connection["connection-type"] == "cloudflare_audit"
    assert connection["hook-class-name"].rpartition(".")[2] in (PACKAGE / "hooks.py").read_text()
    json.loads(connection["ui-field-behaviour"]["placeholders"]["extra"])


def test_a_dag_file_imports_nothing_heavy(airflow: Any) -> None:
    """And little that Airflow has not imported itself."""
    script = (
        "import sys, json, airflow.sdk; from airflow.sdk import DAG, BaseOperator, AssetAlias, Param;"
        "before = set(sys.modules); import cfaudit_airflow.example_dags.cloudflare_audit_backfill;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    imported = json.loads(airflow.run("python", "-W", "ignore", "-c", script).splitlines()[-1])
    assert [name for name in imported if name.startswith(HEAVY)] == []
    ours = [name for name in imported if name.startswith("cfaudit")]
    assert "cfaudit_airflow.operators" in ours
    assert not {name for name in ours if name.startswith(("cfaudit_export.pipeline", "cfaudit_export.sources"))}


@pytest.mark.soak
def test_airflow_lists_the_provider_and_its_hook(airflow: Any) -> None:
    assert re.search(
        r"cfaudit-export +\|.*Cloudflare audit logs|cfaudit-export", airflow.run("airflow", "providers", "list")
    )
    assert "cfaudit_airflow.hooks.CloudflareAuditHook" in airflow.run("airflow", "providers", "hooks")
