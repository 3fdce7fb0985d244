"""The exporter's snippet, run: what JavaScript would do, done here, because nothing else is ever executed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from cfaudit_export.sources.codemode.snippet import Parameters
from cfaudit_sandbox.codemode.api import ApiReply, ConnectionLostError
from cfaudit_sandbox.world.text import js

Fetch = Callable[[str | None, list[tuple[str, str]]], ApiReply]
_MOST_ERROR = 1_000


class UnreadableError(Exception):
    """Reading `accountId` throws, with these words."""


async def run_snippet(
    parameters: Parameters, account_id: Callable[[], str], fetch: Fetch, latency_seconds: float = 0.0
) -> tuple[str, list[bytes]]:
    """Return what the snippet returns: its header, and the bodies that follow.

    Args:
        parameters: what stands in the code.
        account_id: reads the global `accountId`; raises UnreadableError where there is none.
        fetch: asks the API for one page of an account, or with None of the list of accounts; raises
            ConnectionLostError.
        latency_seconds: how long the API takes.
    """
    head: dict[str, Any] = {
        "v": 1,
        "account": None,
        "status": None,
        "retryAfter": None,
        "ratelimit": None,
        "ray": None,
        "bytes": 0,
        "pages": [],
        "err": None,
        "left": None,
    }
    bodies: list[bytes] = []
    try:
        if not parameters.listing:
            head["account"] = parameters.account if parameters.account is not None else account_id()
        cursor = parameters.cursor
        while head["err"] is None and len(bodies) < parameters.pages:
            if latency_seconds:
                await asyncio.sleep(latency_seconds)
            query = [*parameters.query, *([("cursor", cursor)] if cursor else [])]
            reply = fetch(head["account"], query)
            head |= {
                "status": reply.status,
                "retryAfter": reply.headers.get("retry-after"),
                "ratelimit": reply.headers.get("ratelimit"),
                "ray": reply.headers.get("cf-ray"),
            }
            trouble = head["err"] = _trouble(reply, head["bytes"], parameters.most)
            if trouble is not None:
                head["left"] = _left(reply.body) if trouble["kind"] == "size" and not bodies else None
            else:
                cursor = _cursor(reply.body)
                head["bytes"] += len(reply.body)
                head["pages"].append([len(reply.body), cursor])
                bodies.append(reply.body)
                if cursor is None:
                    break
    except ConnectionLostError:
        head["err"] = {"kind": "thrown", "text": "Error: Network connection lost."}
    except UnreadableError as error:
        head["err"] = {"kind": "thrown", "text": f"Error: {error}"[:_MOST_ERROR]}
    return js(head), bodies


def _trouble(reply: ApiReply, so_far: int, most: int) -> dict[str, str] | None:
    if reply.status != 200:
        return {"kind": "status", "text": reply.body.decode("utf-8", "replace")[:_MOST_ERROR]}
    if so_far + len(reply.body) > most:
        return {"kind": "size", "text": str(len(reply.body))}
    # The sandbox makes every page itself, so the beginning tells a page from what is none.
    return None if reply.body.startswith(b"{") else {"kind": "body", "text": "the reply is no page"}


def _left(body: bytes) -> dict[str, str | None] | None:
    rows = json.loads(body)["result"]
    if len(rows) != 1:
        return None
    record = rows[0] if isinstance(rows[0], dict) else {}
    return {"id": record.get("id"), "time": record.get("action", {}).get("time"), "cursor": _cursor(body)}


def _cursor(body: bytes) -> str | None:
    info = json.loads(body[body.rindex(b'"result_info":') + 14 : -1])
    return info.get("cursor") or None
