"""A peer of the exporter: one cursor over the API, each page through json, flattened, written as a row group.

python tests/benchmarks/peer_script.py URL TOKEN SINCE BEFORE OUT

What a careful engineer writes in an afternoon: streaming, typed columns, the event as received beside them; no
checkpoint, no identity, no retries. Prints the number of rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
from peer_rows import COLUMNS, pages, row_of, without_surrogates

SCHEMA = pa.schema([(name, pa.timestamp("us", tz="UTC") if name == "event_time" else pa.string()) for name in COLUMNS])


def read(http: httpx2.Client, url: str, query: dict[str, Any]) -> Any:
    return json.loads(without_surrogates(http.get(url, params=query).content))


def main(url: str, token: str, since: str, before: str, out: str) -> None:
    rows = 0
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        httpx2.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        pq.ParquetWriter(folder / "events.parquet", SCHEMA, compression="zstd") as writer,
    ):
        for page in pages(lambda *asked: read(http, *asked), url, since, before):
            table = pa.Table.from_pylist([row_of(record) for record in page], schema=SCHEMA)
            writer.write_table(table)
            rows += table.num_rows
    print(rows)


if __name__ == "__main__":
    main(*sys.argv[1:6])
