from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import cfaudit_bigquery
from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.sink import BigQuerySink
from cfaudit_export import SettingsError
from cfaudit_export.plugin.config import to_config


def test_the_plugin_offers_the_sink_bigquery() -> None:
    (plugin,) = cfaudit_bigquery.cfaudit_sinks()
    assert (plugin.name, plugin.extra) == ("bigquery", "bigquery")
    assert isinstance(plugin.build(plugin.config(table="audit.events")), BigQuerySink)


def test_listing_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, cfaudit_bigquery; list(cfaudit_bigquery.cfaudit_sinks());"
        " print([name for name in ('google', 'pyarrow', 'msgspec', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"


def test_settings_are_read_from_a_table() -> None:
    table = {
        "table": "logs.audit.events",
        "location": "EU",
        "labels": {"team": "security"},
        "partition_expiry_days": 400,
        "merge": True,
        "retry_seconds": 60,
    }
    assert to_config(BigQueryConfig, table, "sinks.bigquery") == BigQueryConfig(**table)  # type: ignore[arg-type]  # as a table has it


@pytest.mark.parametrize(
    "table", ["d.t", "p-1.d.t", "example.com:p.d.t", "d.größe", "d.with space", "d.with-dash", "d_1.t_1"]
)
def test_names_of_tables_that_bigquery_knows_are_taken(table: str) -> None:
    assert BigQueryConfig(table=table).table == table


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"table": "events"}, "table must be like 'dataset.table' or 'project.dataset.table', not 'events'"),
        ({"table": "d.t$20261101"}, "not 'd.t$20261101'"),
        ({"table": "d.t` WHERE"}, "table must be like"),
        ({"table": "p:d.t"}, "table must be like"),
        ({"table": "größe.t"}, "table must be like"),
        ({"labels": {"Team": "x"}}, "label 'Team' = 'x' is none that BigQuery takes"),
        ({"labels": {"team": "X" * 64}}, "is none that BigQuery takes"),
        ({"labels": {"1st": ""}}, "a letter first in the key"),
        ({"labels": {"": ""}}, "a letter first in the key"),
        ({"labels": {"cfaudit-rows": "1"}}, "label 'cfaudit-rows' must not begin with 'cfaudit-'"),
        ({"labels": {f"n{n}": "" for n in range(31)}}, "labels must be at most 30, not 31"),
        ({"partition_expiry_days": 0}, "partition_expiry_days must be at least 1, not 0"),
        ({"job_timeout_seconds": 0}, "job_timeout_seconds must be positive, not 0"),
        ({"retry_seconds": -1}, "retry_seconds must not be negative, as -1 is"),
        ({"endpoint_url": "bigquery.example.com"}, "endpoint_url must be like 'https://bigquery.example.com'"),
        ({"endpoint_url": "http://x", "credentials_file": "k"}, "credentials are not sent to 'http://x'"),
        ({"tabel": "d.t"}, "unknown key 'sinks.bigquery.tabel'"),
    ],
)
def test_wrong_settings_are_said_so(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        to_config(BigQueryConfig, {"table": "d.t", **wrong}, "sinks.bigquery")
    assert words in str(caught.value)


def test_a_password_in_the_endpoint_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        to_config(BigQueryConfig, {"table": "d.t", "endpoint_url": "https://me:hunter2@x"}, "sinks.bigquery")
    assert "hunter2" not in str(caught.value)
