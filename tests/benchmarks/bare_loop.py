"""The bare minimum: one SDK session, one cursor, every page read and thrown away. Prints the number of rows or pages.

python tests/benchmarks/bare_loop.py auditlogs|codemode URL TOKEN SINCE BEFORE [PARQUET]

With PARQUET, a file, the rows are decoded, mapped and written into it: the least that any exporter has to do beside
reading, by the exporter's own functions, without windows, staging, checkpoints, days, retries, or a log.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

PIECE_PAGES = 20
Take = Callable[[str], None]


class SixFields:
    """Pages of the source `auditlogs`."""

    def __init__(self, since: str, before: str) -> None:
        self._fixed = {"since": since, "before": before, "direction": "asc", "limit": 1000}

    def arguments(self, cursor: str | None) -> dict[str, Any]:
        return {**self._fixed, "cursor": cursor} if cursor else self._fixed

    def end(self, text: str) -> tuple[int, str | None]:
        # Only the end of the text is looked at: where the next page is.
        info = json.loads(text[text.rindex('"result_info":') + 14 : -1])
        return info["count"], info.get("cursor")

    def tables(self, text: str) -> Iterator[Any]:
        from cfaudit_export.sources.auditlogs.decode import decode_page

        yield decode_page(text).rows


class WholeRecords:
    """Pages of the source `codemode`, two in a call."""

    def __init__(self, since: str, before: str) -> None:
        self._query = (("since", since), ("before", before), ("direction", "asc"), ("limit", "1000"))

    def arguments(self, cursor: str | None) -> dict[str, Any]:
        from cfaudit_export.sources.codemode.snippet import Parameters, write_code

        return {"code": write_code(Parameters(None, self._query, cursor, 2, 12_000_000))}

    def end(self, text: str) -> tuple[int, str | None]:
        pages = json.loads(text[: text.index("\n")])["pages"]
        return len(pages), pages[-1][1]

    def tables(self, text: str) -> Iterator[Any]:
        from cfaudit_export.sources.codemode.decode import decode_page
        from cfaudit_export.sources.codemode.frame import read_frame

        for body in read_frame(text).bodies:
            yield decode_page(body, None).rows


KINDS = {"auditlogs": SixFields, "codemode": WholeRecords}


async def main(kind: SixFields | WholeRecords, url: str, token: str, take: Take) -> None:
    read, cursor = 0, None
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http, max_sse_event_size=None)) as client,
    ):
        names = [tool.name for tool in (await client.list_tools()).tools]
        name = names[0] if isinstance(kind, SixFields) else "execute"
        while True:
            result = await client.call_tool(name, kind.arguments(cursor))
            text = result.content[0].text
            take(text)
            count, cursor = kind.end(text)
            read += count
            if not cursor:
                break
    print(read)


def write(name: str, kind: SixFields | WholeRecords, url: str, token: str, path: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cfaudit_export.core.model import Connection, Stream, Window
    from cfaudit_export.pipeline.map import map_extract
    from cfaudit_export.plugin.interfaces import Extract
    from cfaudit_export.schema import schema

    now, account = datetime(2026, 11, 1, tzinfo=UTC), "0" * 32
    window, stream = Window(now - timedelta(days=1), now), Stream(account, name)
    connection = Connection(account, "a name", "user token", 3, frozenset(), "", "", "")
    held: list[Any] = []

    def flush() -> None:
        events = pa.concat_tables(held).combine_chunks()
        held.clear()
        writer.write_table(map_extract(Extract(window, events, (), now, 1), stream, connection))

    def take(text: str) -> None:
        held.extend(kind.tables(text))
        if len(held) >= PIECE_PAGES:
            flush()

    with pq.ParquetWriter(Path(path), schema(), compression="zstd", compression_level=1) as writer:
        anyio.run(main, kind, url, token, take)
        if held:
            flush()


if __name__ == "__main__":
    name, url, token, *span = sys.argv[1:6]
    kind = KINDS[name](*span)
    if sys.argv[6:]:
        write(name, kind, url, token, sys.argv[6])
    else:
        anyio.run(main, kind, url, token, lambda _text: None)
