"""A large batch through the BigQuery sink against the bare library load of the same prepared bytes, in the same run.

    python tests/benchmarks/bench_bigquery.py [--events 1000000] [--small 200000] [--shape six-field] [--rounds 3]

Both send to the stand-in of the tests, which only counts lines here: parsing a million of them would take it longer
than the sink takes to make them, and hide what is measured. So the figures are those of this program and Google's
library, not of BigQuery.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import ROOT, Cost, in_turns
from of_sinks import begin, in_child, tell

TABLE = "proj.audit.events"


@contextmanager
def standin() -> Iterator[str]:
    """Serve the stand-in in a process of its own; yield its URL."""
    command = [sys.executable, str(ROOT / "tests/plugins/bigquery/standin")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.kill()


def clear(url: str) -> None:
    """Forget tables and jobs, make the table, and count lines only."""
    fields = [{"name": "event_id", "type": "STRING"}]
    for what, asked in (
        ("reset", {}),
        ("dataset", {"name": "proj.audit", "location": "EU"}),
        ("settings", {"count_only": True}),
        ("table", {"name": "proj.audit.bare", "resource": {"schema": {"fields": fields}}}),
    ):
        body = json.dumps(asked).encode()
        with urllib.request.urlopen(f"{url}/standin/{what}", body, timeout=60):  # noqa: S310 - our own server
            pass


def prepare(folder: str, events: int, shape: Any) -> None:
    """Stage a batch, and write the body that the sink makes of it beside it."""
    from cfaudit_bigquery.body import Gzipped, json_lines
    from cfaudit_export.testing.batches import make_batch

    batch = make_batch(Path(folder), rows=events, days=30, shape=shape)
    Path(folder, "batch.json").write_text(json.dumps([batch.batch_id, str(batch.path)]))
    body = Gzipped(lines for _, lines in json_lines(batch.path))
    with Path(folder, "body.gz").open("wb") as file:
        while piece := body.read(1 << 20):
            file.write(piece)


def load(url: str, folder: str, events: int) -> None:
    """Load the staged batch with the sink."""
    from cfaudit_bigquery import BigQueryConfig
    from cfaudit_bigquery.sink import BigQuerySink
    from cfaudit_export import Batch, Stream, Window
    from cfaudit_export.core.model import EPOCH, MILLISECOND

    batch_id, path = json.loads(Path(folder, "batch.json").read_text())
    batch = Batch(batch_id, Stream("0" * 32, "auditlogs"), Window(EPOCH, EPOCH + MILLISECOND), events, Path(path), "")
    assert BigQuerySink(BigQueryConfig(table=TABLE, endpoint_url=url)).load(batch).rows == events


def bare(url: str, folder: str, events: int) -> None:
    """Load the prepared body as Google's documentation does."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    client = bigquery.Client("proj", AnonymousCredentials(), client_options={"api_endpoint": url})
    config = bigquery.LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON", write_disposition="WRITE_APPEND", create_disposition="CREATE_NEVER"
    )
    with Path(folder, "body.gz").open("rb") as file:
        job = client.load_table_from_file(file, "proj.audit.bare", location="EU", job_config=config)
    assert job.result().output_rows == events


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Measure one large batch against a smaller one, and against the bare load of its body."""
    for events in (options.events, options.small):
        (folder / str(events)).mkdir()
        in_child(__file__, "prepare", folder / str(events), events, options.shape)
    with standin() as url:

        def loaded(how: str, events: int) -> Cost:
            clear(url)
            return in_child(__file__, how, url, folder / str(events), events)

        costs = in_turns(
            options.rounds,
            bare=lambda: loaded("bare", options.events),
            sink=lambda: loaded("load", options.events),
            small=lambda: loaded("load", options.small),
        )
    size_mb = (folder / str(options.events) / "body.gz").stat().st_size / 1e6
    tell(f"{options.events} events, {options.shape}, {size_mb:.0f} MB of body, into BigQuery", options, costs)


if __name__ == "__main__":
    begin(__doc__, compare, prepare=prepare, load=load, bare=bare)
