"""A body nested without end, which decoders refuse for good reasons -> one of the same length that they take.

A user who can put such a body into an audit log must not stop the export. So what is too deep is covered, byte
for byte, for the reading of the columns; the event as received keeps it.
"""

from __future__ import annotations

import re

DEEPEST = 100  # levels that stay; far more than any real body has
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)


def cover_depths(body: bytearray) -> list[int]:
    """Put a blank text in place of whatever lies deeper than `DEEPEST` levels; return where."""
    places, depth, start = [], 0, 0
    for token in _TOKEN.finditer(bytes(body)):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth == DEEPEST + 1:
                start = token.start()
        elif mark in (b"]", b"}"):
            if depth == DEEPEST + 1:
                body[start : token.end()] = b'"%b"' % (b" " * (token.end() - start - 2))
                places.append(start)
            depth -= 1
    return places
