"""Types and statements against `bqemulator`, which is another project's idea of BigQuery: `pytest -m soak`.

It gets an environment of its own, made by pip, for it holds back libraries that the project uses. Where that cannot be
made, the tests are skipped with pip's last word.

What it is not asked: it gives uploaded jobs names of its own, takes no gzip and knows no permissions, so that a whole
load cannot be tried on it.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.body import json_lines
from cfaudit_bigquery.service import TableService
from cfaudit_bigquery.sink import _merge_statement
from cfaudit_bigquery.table import ready
from cfaudit_export import read_batch
from cfaudit_export.schema_formats import as_bigquery
from cfaudit_export.testing.batches import make_batch

pytestmark = pytest.mark.soak

# Its spatial extension would otherwise be fetched, each time anew, from a place that need not be reachable.
REQUIREMENTS = ("bqemulator==1.4.0", "numpy", "duckdb==1.5.5", "duckdb-extension-spatial==1.5.5")
INSTALL_SPATIAL = """
import duckdb, pathlib, sysconfig
(path,) = pathlib.Path(sysconfig.get_path("purelib")).rglob("spatial.duckdb_extension")
duckdb.execute(f"INSTALL '{path}'")
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program of the emulator; DuckDB's extensions go into its `HOME`, which is the folder above."""
    home = tmp_path_factory.mktemp("bqemulator")
    python = home / "bin" / "python"
    for command, own in (
        ([sys.executable, "-m", "venv", str(home)], {}),
        ([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS], {}),
        ([str(python), "-c", INSTALL_SPATIAL], {"HOME": str(home)}),
    ):
        environ = os.environ | own
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            *_, last = done.stderr.splitlines() or ["no word"]
            pytest.skip(f"no environment for bqemulator: {last}")
    return home / "bin" / "bqemulator"


@pytest.fixture(scope="module")
def emulator(program: Path) -> Iterator[str]:
    with socket.socket() as probe, socket.socket() as other:
        for one in (probe, other):
            one.bind(("127.0.0.1", 0))
        rest, grpc = probe.getsockname()[1], other.getsockname()[1]
    command = [str(program), "start", "--rest-port", str(rest), "--grpc-port", str(grpc)]
    environ = {**os.environ, "HOME": str(program.parents[1])}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{rest}"
        wait_until_healthy(url, process)
        yield url
        process.terminate()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + 60
    while time.monotonic() < last and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("bqemulator does not start")


@pytest.fixture
def client(emulator: str) -> bigquery.Client:
    client = bigquery.Client("proj", AnonymousCredentials(), client_options={"api_endpoint": emulator})
    client.delete_dataset("audit", delete_contents=True, not_found_ok=True)
    client.create_dataset("audit")
    return client


def make_table(url: str, name: str) -> str:
    config = BigQueryConfig(table=f"proj.audit.{name}", endpoint_url=url)
    return ready(TableService(config), config).name


def test_the_table_is_made_as_asked(emulator: str, client: bigquery.Client) -> None:
    table = client.get_table(make_table(emulator, "events"))
    assert [(column.name, column.field_type, column.mode) for column in table.schema] == [
        (field["name"], field["type"], field["mode"]) for field in json.loads(as_bigquery())
    ]
    assert table.time_partitioning.field == "event_time"
    assert table.clustering_fields == ["account_id", "action_type", "actor_email"]


def test_the_body_fills_json_columns_and_the_merge_adds_it_once(
    emulator: str, client: bigquery.Client, tmp_path: Path
) -> None:
    batch = make_batch(tmp_path, rows=50, shape="whole", days=2)
    table, events = make_table(emulator, "events"), make_table(emulator, "arrived")
    config = bigquery.LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON", write_disposition="WRITE_APPEND", create_disposition="CREATE_NEVER"
    )
    body = io.BytesIO(b"".join(lines for _, lines in json_lines(batch.path)))
    client.load_table_from_file(body, events, job_config=config).result()
    for _ in range(2):
        client.query(_merge_statement(table, events, batch)).result()
    asked = "SELECT event_id, event_time, JSON_VALUE(event_raw, '$.six.product') AS product FROM audit.events"
    stored: list[Any] = sorted(tuple(row) for row in client.query(asked).result())
    columns = read_batch(batch).select(["event_id", "event_time", "resource_product"]).to_pydict().values()
    assert stored == sorted(zip(*columns, strict=True))
