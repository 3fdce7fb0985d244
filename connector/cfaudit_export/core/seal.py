"""A JSON document whose last line is the SHA-256 of what is before it, so that an edit or damage is noticed.

That is no signature: who can write the document can compute it.
"""

from __future__ import annotations

import hashlib
import re

_LINE = re.compile(rb',\n  "digest": "([0-9a-f]{64})"\n}\s*$')


def sealed(document: bytes) -> bytes:
    """Return an indented JSON object of at least one key with the line `"digest": "..."` at its end."""
    digest = hashlib.sha256(document).hexdigest()
    return document.removesuffix(b"\n}") + b',\n  "digest": "%s"\n}\n' % digest.encode()


def broken_seal(document: bytes) -> str:
    """Return why a document is not what `sealed` returned, empty if it is."""
    found = _LINE.search(document)
    if found is None:
        return "its digest is missing"
    body = document[: found.start()] + b"\n}"
    is_intact = hashlib.sha256(body).hexdigest() == found[1].decode()
    return "" if is_intact else "it was changed since it was written, as its digest shows"
