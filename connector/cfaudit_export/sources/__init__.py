"""The built-in sources, offered like anybody's. Light: nothing here imports MCP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cfaudit_export import SourceContext, SourcePlugin, hookimpl
from cfaudit_export.core.filters import AUDITLOGS_FILTERS, CODEMODE_FILTERS

if TYPE_CHECKING:
    from cfaudit_export import Source

AUDITLOGS_URL = "https://auditlogs.mcp.cloudflare.com/mcp"
CODEMODE_URL = "https://mcp.cloudflare.com/mcp"
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
        page_size: rows asked for per call, at most 1000.
        piece_rows: events after which a piece of a window is handed on, staged and committed.
        budget_calls: upstream calls this process may spend in five minutes; 0 for no limit. Cloudflare blocks
            a user for five minutes above 1,200, dashboard and all; the default leaves half to others.
        timeout_seconds: longest time for one request, to the last byte of its reply.
        max_reply_bytes: largest reply that is read, decompressed, and three times the largest event of a stream; more
            is a fault of the server.
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
    max_reply_bytes: int = 64_000_000
    retry_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can work with."""
        _check_numbers(self)


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
        _check_numbers(self)


# Of each number the least and the most; what is not a number is neither.
_BOUNDS = {
    "concurrency": (1, 256),
    "page_size": (1, 1_000_000),
    "pages_per_call": (1, 1_000),
    "piece_rows": (1, 100_000_000),
    "budget_calls": (0, 1_000_000_000),
    "timeout_seconds": (0.001, 86_400.0),
    "max_reply_bytes": (1_000, 4_000_000_000),
    "retry_seconds": (0.0, 31_536_000.0),
}


def _check_numbers(config: AuditLogsConfig | CodeModeConfig) -> None:
    """Raise a ValueError where a number is beyond its bounds."""
    for name, (least, most) in _BOUNDS.items():
        number = getattr(config, name, least)
        if not least <= number <= most:
            raise ValueError(f"{name} must be a number from {least:,} to {most:,}, not {number}")


def _build_auditlogs(config: AuditLogsConfig, context: SourceContext) -> Source:
    from cfaudit_export.sources.auditlogs.source import AuditLogsSource

    return AuditLogsSource(config, context)


def _build_codemode(config: CodeModeConfig, context: SourceContext) -> Source:
    from cfaudit_export.sources.codemode.source import CodeModeSource

    return CodeModeSource(config, context)


@hookimpl
def cfaudit_sources() -> Iterator[SourcePlugin]:
    """Offer the built-in sources."""
    yield SourcePlugin(
        "auditlogs",
        AuditLogsConfig,
        _build_auditlogs,
        "Cloudflare's Audit Logs MCP server: six fields of every event, the rest recovered",
        filters=tuple(AUDITLOGS_FILTERS),
    )
    yield SourcePlugin(
        "codemode",
        CodeModeConfig,
        _build_codemode,
        "Cloudflare's API MCP server: whole records, read by one fixed snippet",
        filters=CODEMODE_FILTERS,
        log="auditlogs",
    )
