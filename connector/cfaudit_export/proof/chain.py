"""The names of manifests: one folder for each chain, one file for each number in it; and anchors, which name one.

A chain belongs to one stream and one sink. Its files lie below `_cfaudit`, where readers of exported files do not look.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

FOLDER = "_cfaudit/manifests"
"""Where manifests lie below the root of a sink."""

_NAME = re.compile(r"([0-9a-f]{16}/[^/]+)/(\d{8,12})\.json")
_ANCHOR = re.compile(r"(?:([0-9a-f]{16}/[^\s:\"'/]+):)?\b(\d{1,12}):([0-9a-f]{64})\b")


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """A manifest by its number and the SHA-256 of its file, hex: all that is to be kept elsewhere of a chain."""

    sequence: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A manifest as it was written down elsewhere.

    Attributes:
        link: its number and digest.
        chain: its chain; empty where that was not written down.
    """

    link: Link
    chain: str = ""

    def __str__(self) -> str:
        return f"{self.chain}:{self.link}" if self.chain else str(self.link)


def chain_of(stream_id: str, sink: str) -> str:
    """Return the name of the chain of a stream and a sink."""
    return f"{stream_id}/{quote(sink, safe='').replace('.', '%2E')}"


def file_name(sequence: int) -> str:
    """Return the name of a manifest's file in the folder of its chain."""
    return f"{sequence:08d}.json"


def manifest_name(chain: str, sequence: int) -> str:
    """Return the name of a manifest's file below the root of a sink."""
    return f"{FOLDER}/{chain}/{file_name(sequence)}"


def parse_name(name: str) -> tuple[str, int] | None:
    """Return chain and number of a file by its name below `FOLDER`; None if no manifest is named so."""
    match = _NAME.fullmatch(name)
    if match is None or file_name(int(match[2])) != f"{match[2]}.json":
        return None
    return match[1], int(match[2])


def link_to(sequence: int, document: bytes) -> Link:
    """Return the link to a manifest: its number, and the bytes of its file."""
    return Link(sequence, hashlib.sha256(document).hexdigest())


def parse_anchors(text: str) -> tuple[Anchor, ...]:
    """Return the anchors in a text: every `SEQUENCE:SHA256` or `CHAIN:SEQUENCE:SHA256` in it, so that it may be a log.

    Raises:
        ValueError: there is none.
    """
    some = (Anchor(Link(int(number), digest), chain) for chain, number, digest in _ANCHOR.findall(text))
    if not (found := tuple(dict.fromkeys(some))):
        raise ValueError("holds no anchor; one is SEQUENCE:SHA256, as each run logs it")
    return found
