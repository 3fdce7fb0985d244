"""A peer of the exporter: dlt, whole records from the API into Parquet files. Runs in an environment of its own.

PYTHON tests/benchmarks/peer_dlt.py arrow|rest URL TOKEN SINCE BEFORE OUT

`arrow` yields tables of flat columns, made as in `peer_script`, which dlt passes on; `rest` is dlt's own source for
REST APIs, with its normalization, as its documentation shows it. Prints what was loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import dlt
import pyarrow as pa
from dlt.sources.helpers import requests
from dlt.sources.rest_api import rest_api_source
from peer_rows import COLUMNS, pages, row_of, without_surrogates


def session_of(token: str) -> Any:
    """Return dlt's own session, which retries, with the page cleaned before it is read."""
    session = requests.Client().session
    session.headers["Authorization"] = f"Bearer {token}"

    send = session.send

    def cleaned(*request: Any, **options: Any) -> Any:
        response = send(*request, **options)
        response._content = without_surrogates(response.content)
        return response

    session.send = cleaned
    return session


def arrow(url: str, token: str, since: str, before: str) -> Any:
    kinds = {"event_time": pa.timestamp("us", tz="UTC")}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    session = session_of(token)

    @dlt.resource(name="audit_events", write_disposition="append")
    def events() -> Iterator[Any]:
        for page in pages(lambda address, query: session.get(address, params=query).json(), url, since, before):
            yield pa.Table.from_pylist([row_of(record) for record in page], schema=schema)

    return events


def rest(url: str, token: str, since: str, before: str) -> Any:
    parts = urlsplit(url)
    query = {"since": since, "before": before, "direction": "asc", "limit": 1000}
    endpoint = {
        "path": parts.path.lstrip("/"),
        "params": query,
        "data_selector": "result",
        "paginator": {"type": "cursor", "cursor_path": "result_info.cursor", "cursor_param": "cursor"},
    }
    return rest_api_source(
        {
            "client": {"base_url": f"{parts.scheme}://{parts.netloc}/", "session": session_of(token)},
            # Free-form bodies as columns of their own would be thousands.
            "resources": [{"name": "audit_events", "max_table_nesting": 1, "endpoint": endpoint}],
        }
    )


def main(kind: str, url: str, token: str, since: str, before: str, out: str) -> None:
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    pipeline = dlt.pipeline(
        "audit",
        destination=dlt.destinations.filesystem(f"file://{out}"),
        dataset_name="audit",
        pipelines_dir=f"{out}/dlt",
    )
    source = {"arrow": arrow, "rest": rest}[kind](url, token, since, before)
    print(pipeline.run(source, loader_file_format="parquet"))


if __name__ == "__main__":
    main(*sys.argv[1:7])
