"""Settings of the sink, checked as they are read. Light: it is imported whenever plugins are listed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

MEBIBYTE = 1 << 20
MOST_BYTES = 5 * MEBIBYTE
"""Splunk Cloud refuses somewhat larger bodies, and calls them malformed instead of too large."""

_COLLECTOR_PATH = re.compile(r"(/services/collector(/event)?(/1\.0)?)?/*$")


@dataclass(frozen=True, slots=True)
class SplunkConfig:
    """What `[sinks.splunk]` holds.

    Attributes:
        url: where the HTTP Event Collector listens, `https://splunk.example.com:8088`, or a list of such; the path
            may be given or left out.
        token_env: environment variable that holds the token.
        token_file: file that holds the token, instead of the variable.
        index: index to write to; without one the token's default.
        sourcetype: source type of every event.
        source: source of every event; without one Splunk names the token.
        host: host of every event; without one Splunk names the endpoint.
        event_raw: whether to send the event exactly as received beside the columns made of it.
        max_bytes: most bytes of a request before compression, 5 MiB at the outside; a larger event goes alone.
        max_events: most events of a request.
        gzip: whether to compress requests.
        ack: `auto` waits for indexer acknowledgement where the token has it, `on` refuses a token that has not,
            `off` is content when Splunk has taken the events into memory.
        ack_poll_seconds: longest pause between two questions for acknowledgements.
        ack_timeout_seconds: how long a request may wait for its acknowledgement before it is sent again.
        timeout_seconds: longest time for one exchange, from the connection to the last byte of the reply.
        retry_seconds: longest time spent on sending one request to endpoints that are down or busy.
        ca_file: certificates to trust instead of the system's, PEM.
        allow_http: whether the token may travel unencrypted; never needed on the loopback.
        resend_lost: what to do about a batch whose staged file is lost with its machine: read and send its events
            again, although they may be there, or stop and say so.
    """

    url: str | tuple[str, ...]
    token_env: str = "SPLUNK_HEC_TOKEN"  # noqa: S105 - the name of a variable
    token_file: Path | None = None
    index: str | None = None
    sourcetype: str = "cloudflare:audit"
    source: str | None = None
    host: str | None = None
    event_raw: bool = True
    max_bytes: int = MEBIBYTE
    max_events: int = 10_000
    gzip: bool = True
    ack: Literal["auto", "on", "off"] = "auto"
    ack_poll_seconds: float = 10.0
    ack_timeout_seconds: float = 300.0
    timeout_seconds: float = 30.0
    retry_seconds: float = 120.0
    ca_file: Path | None = None
    allow_http: bool = False
    resend_lost: bool = False

    def __post_init__(self) -> None:
        for url in self.bases:
            if url.startswith("http://") and not self.allow_http and not _on_loopback(url):
                raise ValueError(f"url '{url}' would send the token unencrypted; use https, or set allow_http = true")
        if not 1 <= self.max_bytes <= MOST_BYTES:
            raise ValueError(f"max_bytes must be from 1 to {MOST_BYTES}, not {self.max_bytes}")
        if self.max_events < 1:
            raise ValueError(f"max_events must be at least 1, not {self.max_events}")
        for name in ("ack_poll_seconds", "ack_timeout_seconds", "timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")
        if not self.retry_seconds >= 0:
            raise ValueError(f"retry_seconds must not be negative, not {self.retry_seconds}")

    @property
    def bases(self) -> tuple[str, ...]:
        """Return the URLs without the collector's path, as they are shown and built upon.

        Raises:
            ValueError: one is not the URL of a collector, or there is none.
        """
        urls = (self.url,) if isinstance(self.url, str) else self.url
        if not urls:
            raise ValueError("url is an empty list; name at least one collector")
        return tuple(dict.fromkeys(map(_base, urls)))


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not shown: it may be a token.
        raise ValueError("url holds a user, a query or a fragment; a token belongs in token_env or token_file")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url must look like https://splunk.example.com:8088, not '{url}'")
    return f"{parts.scheme}://{parts.netloc}{_COLLECTOR_PATH.sub('', parts.path)}"


def _on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
