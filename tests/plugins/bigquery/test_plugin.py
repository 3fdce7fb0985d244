from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import cfaudit_bigquery
from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.service import Service
from cfaudit_bigquery.sink import BigQuerySink
from cfaudit_export import SettingsError, SinkRefusedError
from cfaudit_export.convert import to_config


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
    assert to_config(BigQueryConfig, table, "sinks.bigquery") == BigQueryConfig(**table)  # type: ignore[arg-type]


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


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    info = {
        "type": "service_account",
        "project_id": "of-the-key",
        "private_key": key.decode(),
        "client_email": "export@of-the-key.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.invalid/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(info))
    return path


def test_the_project_is_the_one_that_is_set_else_that_of_the_key(key_file: Path) -> None:
    def table(**more: Any) -> str:
        return Service(BigQueryConfig(credentials_file=key_file, **more)).table

    assert table(table="audit.events") == "of-the-key.audit.events"
    assert table(table="audit.events", project="payer") == "payer.audit.events"
    assert table(table="owner.audit.events", project="payer") == "owner.audit.events"


def test_without_any_project_the_settings_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    sink = BigQuerySink(BigQueryConfig(table="audit.events", endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(SinkRefusedError, match=r"no project to run jobs in; set project, or write table as 'project"):
        sink.check()
