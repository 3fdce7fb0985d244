"""The source `rest`: whole records from Cloudflare's API itself, for machines that may not use MCP servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfaudit_export import SourceContext, SourcePlugin, hookimpl
from cfaudit_export.core.filters import CODEMODE_FILTERS
from cfaudit_export.sources.mcp.config import check_numbers

if TYPE_CHECKING:
    from cfaudit_export import Source

API_URL = "https://api.cloudflare.com/client/v4"


@dataclass(frozen=True, slots=True)
class RestConfig:
    """Settings of the source `rest`, under `[sources.rest]`.

    Attributes:
        server_url: the URL of Cloudflare's API, or of a gateway to it.
        headers: further request headers, name to the environment variable that holds the value.
        insecure_http: send credentials over plain http, also to other machines than this one.
        concurrency: windows read at once.
        page_size: rows asked for per page, at most 1000; fewer are asked for where events are large.
        piece_rows: events after which a piece of a window is handed on, staged and committed.
        budget_calls: calls this process may spend in five minutes, one a page; 0 for no limit. Cloudflare blocks a
            user for five minutes above 1,200, dashboard and all; the default leaves half to others.
        timeout_seconds: longest time for one request, to the last byte of its reply.
        max_reply_bytes: largest reply that is read, decompressed; of one that is larger fewer rows are asked for.
        retry_seconds: longest time spent on retrying one call that fails on the server's side.
    """

    server_url: str = API_URL
    headers: dict[str, str] = field(default_factory=dict)
    insecure_http: bool = False
    concurrency: int = 4
    page_size: int = 1000
    piece_rows: int = 10_000
    budget_calls: int = 600
    timeout_seconds: float = 60.0
    max_reply_bytes: int = 64_000_000
    retry_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can work with."""
        check_numbers(self)


def _build_rest(config: RestConfig, context: SourceContext) -> Source:
    from cfaudit_export.sources.rest.source import rest_source

    return rest_source(config, context)


@hookimpl
def cfaudit_sources() -> Iterator[SourcePlugin]:
    """Offer the source."""
    yield SourcePlugin(
        "rest",
        RestConfig,
        _build_rest,
        "Cloudflare's API itself, with an API token: whole records, where MCP servers may not be used",
        filters=CODEMODE_FILTERS,
        log="auditlogs",
    )
