"""The bare minimum: one SDK session, one cursor, every page read and thrown away. Prints the number of rows.

python tests/benchmarks/bare_loop.py URL TOKEN SINCE BEFORE [PARQUET]

With PARQUET, a file, the rows are decoded, mapped and written into it: the least that any exporter has to do beside
reading, by the exporter's own functions, without windows, staging, checkpoints, days, retries, or a log.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

PIECE_PAGES = 20


async def main(url: str, token: str, since: str, before: str, take: Callable[[str], None]) -> None:
    rows, cursor = 0, None
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        (tool,) = (await client.list_tools()).tools
        while True:
            arguments = {"since": since, "before": before, "direction": "asc", "limit": 1000}
            if cursor:
                arguments["cursor"] = cursor
            result = await client.call_tool(tool.name, arguments)
            text = result.content[0].text
            take(text)
            # Only the end of the text is looked at: where the next page is.
            info = json.loads(text[text.rindex('"result_info":') + 14 : -1])
            rows += info["count"]
            cursor = info.get("cursor")
            if not cursor:
                break
    print(rows)


def write(url: str, token: str, since: str, before: str, path: str) -> None:
    from datetime import UTC, datetime, timedelta

    import pyarrow as pa

    from cfaudit_export.interfaces import Extract
    from cfaudit_export.model import Connection, Stream, Window
    from cfaudit_export.parquet import write_parquet
    from cfaudit_export.pipeline.map import map_extract
    from cfaudit_export.schema import schema
    from cfaudit_export.sources.auditlogs.decode import decode_page

    now, account = datetime(2026, 11, 1, tzinfo=UTC), "0" * 32
    window, stream = Window(now - timedelta(days=1), now), Stream(account, "auditlogs")
    connection = Connection(account, "a name", "user token", 3, frozenset(), "", "", "")
    pages: list[Any] = []

    def pieces() -> Any:
        for start in range(0, len(pages), PIECE_PAGES):
            events = pa.concat_tables(pages[start : start + PIECE_PAGES]).combine_chunks()
            yield map_extract(Extract(window, events, (), now, PIECE_PAGES), stream, connection)

    anyio.run(main, url, token, since, before, lambda text: pages.append(decode_page(text).rows))
    with Path(path).open("wb") as file:
        write_parquet(file, schema(), pieces(), {})


if __name__ == "__main__":
    if sys.argv[5:]:
        write(*sys.argv[1:6])
    else:
        anyio.run(main, *sys.argv[1:5], lambda _text: None)
