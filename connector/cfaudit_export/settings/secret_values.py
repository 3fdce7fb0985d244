"""Settings and variables -> every secret that they hold or name, before anything is done with them.

What a command writes is searched for these (`log.Redaction`), so that a peer that says a secret back, or a library
that puts one into an error, does not get it written. More is taken for a secret than is one: that costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cfaudit_export.settings import Settings

_SECRET = re.compile(
    r"token|secret|passw|passphrase|credential|(api|access|private|signing)_?key|_auth|cookie", re.IGNORECASE
)
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
# A part of a path that looks generated: long, with a digit in it, as those of monitors and web hooks are.
_RANDOM = re.compile(r"(?=[^/]*\d)[A-Za-z0-9_=~-]{16,}")
_MOST_BYTES = 64 << 10


def secret_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets of variables, which are known by their names, and of URLs in them."""
    for name, value in environ.items():
        if _HEADERS.fullmatch(name):
            for pair in value.split(","):
                yield unquote(pair.partition("=")[2].strip())
        elif _SECRET.search(name) and not name.lower().endswith(("_file", "_env", "_path")):
            yield from () if _is_path(value) else (value,)
        yield from _in_urls(value)


def secret_values(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets of settings: of URLs, and of files and variables that they name."""
    tables = (settings.sources, settings.sinks, settings.transforms, settings.checkpoint)
    own = {
        "ping_url": settings.ping_url,
        "otlp_endpoint": settings.otlp_endpoint,
        "token_file": settings.token_file,
        "client_secret_variable": settings.client_secret_variable,
        "client_secret_file": settings.client_secret_file,
        "timestamp_url": settings.integrity.timestamp_url,
        "identity_secret_file": settings.identity.key_file,
    }
    for table in (*tables, own):
        yield from _in_table(table, environ)


def _in_table(table: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            # Of headers the values are names of variables.
            yield from (environ.get(str(one), "") for one in value.values() if name == "headers")
            yield from _in_table(value, environ)
        elif isinstance(value, str | Path):
            yield from _in_setting(name, str(value), environ)
        elif isinstance(value, list | tuple):
            for one in value:
                yield from _in_setting(name, str(one), environ)


def _in_setting(name: str, value: str, environ: Mapping[str, str]) -> Iterator[str]:
    if name.endswith(("_env", "_variable")):
        yield environ.get(value, "")
    elif name.endswith("_file") and _SECRET.search(name):
        yield from _in_file(Path(value).expanduser())
    elif _SECRET.search(name):
        yield value
    if name == "ping_url":
        yield value
    yield from _in_urls(value)


def _in_file(path: Path) -> Iterator[str]:
    with suppress(OSError, ValueError), path.open("rb") as file:  # its user reports that it cannot be read
        text = file.read(_MOST_BYTES).decode().strip()
        yield text
        yield from text.split("\n")


def _is_path(text: str) -> bool:
    """Say whether a text names a file that is there, as variables do whose names speak of credentials."""
    with suppress(OSError, ValueError):
        return text.startswith(("/", "~")) and Path(text).expanduser().exists()
    return False


def _in_urls(text: str) -> Iterator[str]:
    """Yield the passwords, the values of queries, and the random parts of paths of URLs in a text."""
    for found in _URL.findall(text):
        with suppress(ValueError):
            parts = urlsplit(found)
            yield from (one for one in (parts.password, unquote(parts.password or "")) if one)
            for _, value in parse_qsl(parts.query):
                yield value
            yield from _RANDOM.findall(parts.path)
