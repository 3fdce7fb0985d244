"""The bare minimum: one SDK session, one cursor, every page read and thrown away. Prints the number of rows.

python tests/benchmarks/bare_loop.py URL TOKEN SINCE BEFORE [PAGES]
"""

from __future__ import annotations

import json
import sys

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, token: str, since: str, before: str) -> None:
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
            # Only the end of the text is looked at: where the next page is.
            info = json.loads(text[text.rindex('"result_info":') + 14 : -1])
            rows += info["count"]
            cursor = info.get("cursor")
            if not cursor:
                break
    print(rows)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:5])
