"""Secrets that must not be shown -> texts without them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

# Shorter ones would hide half of every line.
_SECRET_LENGTH = 8
# A number of fewer digits may be a count of rows.
_NUMBER_LENGTH = 16
_STARS = "***"
# So many characters at the beginning of a secret are one where a text was cut, so many anywhere.
_CUT_LENGTH = 5
_LONG_LENGTH = 12
# What stands behind a text that was cut: a mark, or what closes a quotation, or nothing.
_MARKS = ("…", "...", "\\u2026")
_ENDS = ("", "'", '"', "\n", "\\")


class Redaction:
    """Secrets that must not be shown: the last line of defence, behind code that does not show them.

    A text may have been cut before it comes here, and with it a secret in it. So a beginning of a secret is hidden too:
    one of some length anywhere, and a shorter one where a text was cut.
    """

    def __init__(self) -> None:
        self._hidden: set[str] = set()

    def hide(self, secret: str | None) -> None:
        """Remember a secret, in the forms in which it may appear in text, in JSON, in a URL, and in a header.

        A header `Basic` has it in Base64, behind a name (RFC 7617).
        """
        if secret and len(secret) >= (_NUMBER_LENGTH if secret.isdigit() else _SECRET_LENGTH):
            # A header `Bearer x` is a secret because of x.
            for one in {secret, *(word for word in secret.split() if len(word) >= _SECRET_LENGTH)}:
                self._hidden = self._hidden | _forms(one)  # another thread may be looking at the set

    def reply(self, content: bytes) -> bytes:
        """Return what a peer answered with every secret replaced."""
        return self(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    def __call__(self, text: str) -> str:
        """Return the text with every secret replaced by `***`."""
        for secret in sorted(self._hidden, key=len, reverse=True):
            if secret[:_CUT_LENGTH] in text:
                text = _without(text.replace(secret, _STARS), secret)
        return text


def _forms(secret: str) -> set[str]:
    forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return forms | {quote(secret, safe=""), quote(secret), quote_plus(secret)} | {*_in_base64(secret)}


def _in_base64(secret: str) -> Iterator[str]:
    """Yield what Base64 has of a secret that is a part of a text: three forms, by the number of bytes before it."""
    content = secret.encode(errors="replace")
    for before, unsure in enumerate((0, 2, 3)):
        sure = b64encode(bytes(before) + content)[unsure : (before + len(content)) * 8 // 6].decode()
        if len(sure) >= _SECRET_LENGTH:
            yield from (sure, sure.translate(str.maketrans("+/", "-_")))


def _without(text: str, secret: str) -> str:
    """Return a text without beginnings of a secret that are long, or that end where a text was cut."""
    if "://" in secret:
        return text  # other URLs begin like it; what is secret in it is remembered for itself
    start = text.find(secret[:_CUT_LENGTH])
    while start >= 0:
        length = next(
            (at for at, letter in enumerate(secret) if text[start + at : start + at + 1] != letter), len(secret)
        )
        while length and secret[length - 1] == "\\":  # half of an escape in JSON, whose other half stays
            length -= 1
        end = start + length
        is_cut = text.startswith(_MARKS, end) or (length >= _SECRET_LENGTH and text[end : end + 1] in _ENDS)
        if is_cut or length >= max(_LONG_LENGTH, len(secret) // 3):
            text = f"{text[:start]}{_STARS}{text[end:]}"
            end = start + len(_STARS)
        start = text.find(secret[:_CUT_LENGTH], max(end, start + 1))
    return text
