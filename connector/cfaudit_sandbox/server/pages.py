"""Page of an audit log -> the text of the tool's answer, with a bounded cache in front."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass

from cfaudit_sandbox.world.drift import changed_row
from cfaudit_sandbox.world.paging import AuditPage
from cfaudit_sandbox.world.query import AuditQuery
from cfaudit_sandbox.world.schema import RECORD, issues, zod3, zod4
from cfaudit_sandbox.world.text import escaped, js, js_pretty
from cfaudit_sandbox.world.world import World

_ENTRY_OVERHEAD_BYTES = 500


@dataclass(frozen=True, slots=True)
class ToolText:
    """The text of a tool's answer, in UTF-8, as it stands between the quotes of a JSON string."""

    escaped: bytes
    is_error: bool = False


def plain_error(text: str) -> ToolText:
    """Answer with a plain text as error."""
    return ToolText(escaped(text).encode(), is_error=True)


def json_error(body: dict[str, object]) -> ToolText:
    """Answer with a JSON text as error."""
    return plain_error(js(body))


def read_error(message: str) -> ToolText:
    """Answer that reading the log failed."""
    return json_error({"error": f"Error reading audit logs: {message}"})


def render(world: World, account_id: str, page: AuditPage) -> ToolText:
    """Write a page as the tool does: six fields per row, or every issue of every row it refuses."""
    if flawed := world.flawed(account_id, page):
        return read_error(js_pretty(_issues(world, account_id, page, flawed)))
    texts = world.row_texts(account_id, page)
    if changes := {"more-fields", "arrays"} & set(world.options.drift):
        records = world.record_texts(account_id, page)
        texts = [changed_row(row, record, changes) for row, record in zip(texts, records, strict=True)]
    rows = ",".join(texts)
    info: dict[str, object] = {"count": len(page.rows)}
    if page.cursor is not None:
        info["cursor"] = page.cursor
    text = f'{{\\"logs\\":[{rows}],\\"result_info\\":{escaped(js(info))}}}'
    return ToolText(text.encode())


def _issues(world: World, account_id: str, page: AuditPage, flawed: list[int]) -> list[dict[str, object]]:
    write = zod3 if world.options.zod == 3 else zod4
    texts = world.record_texts(account_id, AuditPage([page.rows[place] for place in flawed], None))
    return [
        write(issue)
        for place, text in zip(flawed, texts, strict=True)
        for issue in issues(RECORD, json.loads(text), ("result", place))
    ]


class PageCache:
    """The pages rendered last, up to a number of bytes. A page is found again as long as the log stands still."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.reset()

    def reset(self) -> None:
        """Forget all pages, and how often they were asked for."""
        self._entries: OrderedDict[tuple[object, ...], ToolText] = OrderedDict()
        self._bytes = 0
        self.hits = 0
        self.misses = 0

    def key(self, account_id: str, query: AuditQuery) -> tuple[object, ...]:
        """Make the key of a query's answer at this moment."""
        # A cursor that expires carries the time of its making, so such a page is never the same again.
        moment = self._world.now_ns() if self._world.options.cursor_kind == "expiring" else 0
        return account_id, self._world.epoch(account_id), query, moment

    def get(self, key: tuple[object, ...]) -> ToolText | None:
        """Look a page up."""
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, key: tuple[object, ...], text: ToolText) -> None:
        """Keep a page, and let the oldest ones go."""
        if key in self._entries:
            return
        self._entries[key] = text
        self._bytes += len(text.escaped) + _ENTRY_OVERHEAD_BYTES
        while self._bytes > self._world.options.cache_bytes and self._entries:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= len(dropped.escaped) + _ENTRY_OVERHEAD_BYTES
