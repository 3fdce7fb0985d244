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
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import ROOT, Cost, in_turns, run, show, verdict

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


def in_child(url: str, what: str, folder: Path, events: int, shape: str) -> Cost:
    """Run one of the functions below in a process of its own."""
    clear(url)
    return run([sys.executable, __file__, "--child", what, url, str(folder), str(events), shape])


def prepare(_url: str, folder: Path, events: int, shape: str) -> None:
    """Stage a batch, and write the body that the sink makes of it beside it."""
    from cfaudit_bigquery.body import Gzipped, json_lines
    from cfaudit_export.testing.batches import make_batch

    batch = make_batch(folder, rows=events, days=30, shape=shape)
    (folder / "batch.json").write_text(json.dumps([batch.batch_id, str(batch.path)]))
    body = Gzipped(lines for _, lines in json_lines(batch.path))
    with (folder / "body.gz").open("wb") as file:
        while piece := body.read(1 << 20):
            file.write(piece)


def sink(url: str, folder: Path, events: int, _shape: str) -> None:
    """Load the staged batch with the sink."""
    from cfaudit_bigquery import BigQueryConfig
    from cfaudit_bigquery.sink import BigQuerySink
    from cfaudit_export import Batch, Stream, Window
    from cfaudit_export.model import EPOCH, MILLISECOND

    batch_id, path = json.loads((folder / "batch.json").read_text())
    batch = Batch(batch_id, Stream("0" * 32, "auditlogs"), Window(EPOCH, EPOCH + MILLISECOND), events, Path(path), "")
    assert BigQuerySink(BigQueryConfig(table=TABLE, endpoint_url=url)).load(batch).rows == events


def bare(url: str, folder: Path, events: int, _shape: str) -> None:
    """Load the prepared body as Google's documentation does."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    client = bigquery.Client("proj", AnonymousCredentials(), client_options={"api_endpoint": url})
    config = bigquery.LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON", write_disposition="WRITE_APPEND", create_disposition="CREATE_NEVER"
    )
    with (folder / "body.gz").open("rb") as file:
        job = client.load_table_from_file(file, "proj.audit.bare", location="EU", job_config=config)
    assert job.result().output_rows == events


def started(_url: str, _folder: Path, _events: int, _shape: str) -> None:
    """Import what a load needs: what a process costs before it has done anything."""
    import cfaudit_bigquery.sink  # noqa: F401 - it is the import that is measured


def main() -> None:
    """Measure."""
    if sys.argv[1:2] == ["--child"]:
        _, _, what, url, folder, events, shape = sys.argv
        globals()[what](url, Path(folder), int(events), shape)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", default="six-field", choices=["six-field", "whole"])
    options = parser.parse_args()
    peaks = {}
    with standin() as url:
        for events in (options.small, options.events):
            with tempfile.TemporaryDirectory() as folder:
                here = (Path(folder), events, options.shape)
                in_child(url, "prepare", *here)
                costs = in_turns(
                    options.rounds,
                    started=lambda here=here: in_child(url, "started", *here),
                    bare=lambda here=here: in_child(url, "bare", *here),
                    sink=lambda here=here: in_child(url, "sink", *here),
                )
            show(f"{events} events, {options.shape}", costs)
            for name in ("bare", "sink"):
                print(f"  {name}: {events / (costs[name].wall - costs['started'].wall):,.0f} events/s after start-up")
            peaks[events] = costs["sink"].peak_mb
    verdict("peak memory against the smaller batch", peaks[options.events] / peaks[options.small], 1.2)


if __name__ == "__main__":
    main()
