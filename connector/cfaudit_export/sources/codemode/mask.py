"""A body that strict decoders refuse -> one of the same length that they take.

JSON allows two things that a decoder may refuse for good reasons: halves of surrogate pairs, and nesting without
end. Whoever can put such a body into an audit log must not stop the export with it. So the odd places are covered,
byte for byte, for the reading of the columns; the event as received keeps them.
"""

from __future__ import annotations

import re

DEEPEST = 100  # levels that stay; far more than any real body has
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u[dD][89a-fA-F]..|.)", re.DOTALL)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)
_REPLACEMENT = rb"\ufffd"


def cover_surrogates(body: bytes) -> bytes:
    """Return the body with U+FFFD in place of every surrogate that is not half of a pair."""
    return _ESCAPE.sub(lambda found: _REPLACEMENT if len(found[0]) == len(_REPLACEMENT) else found[0], body)


def cover_depths(body: bytes) -> bytes:
    """Return the body with a blank text in place of whatever lies deeper than `DEEPEST` levels."""
    covered, depth, start = bytearray(body), 0, 0
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth == DEEPEST + 1:
                start = token.start()
        elif mark in (b"]", b"}"):
            if depth == DEEPEST + 1:
                covered[start : token.end()] = b'"%b"' % (b" " * (token.end() - start - 2))
            depth -= 1
    return bytes(covered)
