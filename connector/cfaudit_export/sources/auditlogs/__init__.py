"""The source `auditlogs`: Cloudflare's Audit Logs MCP server, six fields an event, no ids, one tool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cfaudit_export import SourceContext, SourcePlugin, hookimpl
from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.sources.mcp.config import check_numbers

if TYPE_CHECKING:
    from cfaudit_export import Source

AUDITLOGS_URL = "https://auditlogs.mcp.cloudflare.com/mcp"

CLOUDFLARE_API_URL = "https://api.cloudflare.com/client/v4"


@dataclass(frozen=True, slots=True)
class AuditLogsConfig:
    """Settings of the source `auditlogs`, under `[sources.auditlogs]`.

    Attributes:
        server_url: the MCP endpoint; a gateway's URL works too.
        headers: further request headers, name to the environment variable that holds the value.
        insecure_http: send credentials over plain http, also to other machines than this one.
        api_url: Cloudflare's API, asked once with an API token for the account it belongs to; empty for never.
            By default only asked when `server_url` is Cloudflare's own server.
        tool: name of the tool; empty finds it by its usual name, also behind a gateway's prefix.
        protocol: protocol revision; `auto` tries the newest first.
        concurrency: windows read at once.
        page_size: rows asked for per call, at most 1000; fewer are asked for where rows are large.
        piece_rows: events after which a piece of a window is handed on, staged and committed.
        budget_calls: upstream calls this process may spend in five minutes; 0 for no limit. Cloudflare blocks
            a user for five minutes above 1,200, dashboard and all; the default leaves half to others.
        timeout_seconds: longest time for one request, to the last byte of its reply.
        max_reply_bytes: largest reply that is read, decompressed, and three times the largest event of a stream; more
            is a fault of the server. Of several rows no more than 8 MB are read, and then fewer rows are asked for.
        retry_seconds: longest time spent on retrying one call that fails on the server's side, and on waiting for a
            server that cannot be reached when a run begins.
    """

    server_url: str = AUDITLOGS_URL
    headers: dict[str, str] = field(default_factory=dict)
    insecure_http: bool = False
    api_url: str | None = None
    tool: str = ""
    protocol: Literal["auto", "2026-07-28", "2025-11-25"] = "auto"
    concurrency: int = 4
    page_size: int = 1000
    piece_rows: int = 20_000
    budget_calls: int = 600
    timeout_seconds: float = 60.0
    max_reply_bytes: int = 20_000_000
    retry_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can work with."""
        check_numbers(self)


def _build_auditlogs(config: AuditLogsConfig, context: SourceContext) -> Source:
    from cfaudit_export.sources.auditlogs.source import AuditLogsSource

    return AuditLogsSource(config, context)


@hookimpl
def cfaudit_sources() -> Iterator[SourcePlugin]:
    """Offer the source."""
    yield SourcePlugin(
        "auditlogs",
        AuditLogsConfig,
        _build_auditlogs,
        "Cloudflare's Audit Logs MCP server: six fields of every event, the rest recovered",
        filters=tuple(AUDITLOGS_FILTERS),
    )
