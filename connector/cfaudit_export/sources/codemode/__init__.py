"""The source `codemode`: whole records, through the Cloudflare API MCP server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cfaudit_export import SourceContext, SourcePlugin, hookimpl
from cfaudit_export.core.filters import CODEMODE_FILTERS
from cfaudit_export.sources.mcp.config import check_numbers

if TYPE_CHECKING:
    from cfaudit_export import Source

CODEMODE_URL = "https://mcp.cloudflare.com/mcp"


@dataclass(frozen=True, slots=True)
class CodeModeConfig:
    """Settings of the source `codemode`, under `[sources.codemode]`.

    Attributes:
        server_url: the MCP endpoint; a gateway's URL works too. The switch that keeps replies whole is added.
        headers: further request headers, name to the environment variable that holds the value.
        tool: name of the tool; empty finds it by its usual name, also behind a gateway's prefix.
        protocol: protocol revision; `auto` tries the newest first.
        insecure_http: send credentials over plain http, also to other machines than this one.
        concurrency: windows read at once.
        page_size: rows asked for per page, at most 1000; fewer are asked for where events are large.
        pages_per_call: pages read by one call at most; a call has one until the server proves quick.
        piece_rows: events after which a piece of a window is handed on, staged and committed.
        budget_calls: upstream calls this process may spend in five minutes, one a page; 0 for no limit. Cloudflare
            blocks a user for five minutes above 1,200, dashboard and all; the default leaves half to others.
        timeout_seconds: longest time for one request, to the last byte of its reply.
        max_reply_bytes: largest reply that is read, decompressed, and three times the largest event of a stream; more
            is a fault of the server.
        retry_seconds: longest time spent on retrying one call that fails on the server's side, and on waiting for a
            server that cannot be reached when a run begins.
        scope: what a sign-in asks for, unless `scope` itself is set. The server offers far more, up to changing
            everything; this is what reading the audit log needs.
    """

    server_url: str = CODEMODE_URL
    headers: dict[str, str] = field(default_factory=dict)
    tool: str = ""
    protocol: Literal["auto", "2026-07-28", "2025-11-25"] = "auto"
    insecure_http: bool = False
    concurrency: int = 4
    page_size: int = 1000
    pages_per_call: int = 5
    piece_rows: int = 10_000
    budget_calls: int = 600
    timeout_seconds: float = 120.0
    max_reply_bytes: int = 64_000_000
    retry_seconds: float = 120.0
    scope: str = "user:read account:read account-settings.read offline_access"

    def __post_init__(self) -> None:
        """Refuse numbers that no run can work with."""
        check_numbers(self)


def _build_codemode(config: CodeModeConfig, context: SourceContext) -> Source:
    from cfaudit_export.sources.codemode.source import codemode_source

    return codemode_source(config, context)


@hookimpl
def cfaudit_sources() -> Iterator[SourcePlugin]:
    """Offer the source."""
    yield SourcePlugin(
        "codemode",
        CodeModeConfig,
        _build_codemode,
        "Cloudflare's API MCP server: whole records, read by one fixed snippet",
        filters=CODEMODE_FILTERS,
        log="auditlogs",
    )
