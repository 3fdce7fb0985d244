"""Addresses and secrets anywhere in a text: found by what they look like, so that no path has to be known."""

from __future__ import annotations

import re
from collections.abc import Callable

REMOVED = "[removed]"

# In URLs an at sign may be written %40, and in JSON within a text \u0040.
_AT = r"(?:@|%40|\\u0040)"
_LOCAL = r"(?:[\w.+~!#$^*{}|-]|%2[Bb])+"
_EMAIL = re.compile(rf"({_LOCAL}){_AT}([\w-]+(?:\.[\w-]+)*)")
_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)*")
# The same as `_LOCAL`, read from the at sign to the left.
_LOCAL_BACKWARDS = re.compile(r"(?:[Bb]2%|[\w.+~!#$^*{}|-])+")
_LONGEST_LOCAL = 96
_LEAST_SECRET = 20
EMAIL_SIGNS = ("@", "%40", "\\u00")
"""Without any of these in a JSON text, no e-mail address is in it."""
_ESCAPED_ASCII = re.compile(r"\\u00[2-7]")  # what stands for itself as a rule, and need not
_PSEUDONYM = re.compile(r"p\d{1,9}_[0-9a-f]{32}")

_SECRET_NAME = re.compile(r"(?:password|secret|token|key|authorization)$", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:(?!-----END).)*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|\bcf[ua]t_[A-Za-z0-9_-]{16,}"
    r"|\bv1\.0-[A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    re.DOTALL,
)
_MAY_BE_SECRET = re.compile(
    r"password|secret|token|key|authorization|cf[ua]t_|v1\.0-|eyJ|\\u00[2-7]|PRIVATE", re.IGNORECASE
)


def may_have_email(text: str) -> bool:
    """Say whether an e-mail address may be in a text, or in the strings of a JSON text."""
    return "@" in text or "%40" in text or ("\\u00" in text and _ESCAPED_ASCII.search(text) is not None)


def may_have_secret(text: str) -> bool:
    """Say whether a secret may be in the strings of a JSON text."""
    return _MAY_BE_SECRET.search(text) is not None


def without_emails(text: str, hide: Callable[[str], str]) -> str:
    """Return a text with another one in the place of each e-mail address; pseudonyms stay as they are."""
    if "\\u0040" in text:
        return _EMAIL.sub(lambda found: _hidden(found[0], found[1], found[2], hide), text)
    return plain_emails(text, hide)


def plain_emails(text: str, hide: Callable[[str], str]) -> str:
    """Return the same of a text in which no at sign is escaped."""
    if "%40" in text:
        return _EMAIL.sub(lambda found: _hidden(found[0], found[1], found[2], hide), text)
    at = text.find("@")
    if at < 0:
        return text
    parts, end = [], 0
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        before = text[max(end, at - _LONGEST_LOCAL) : at][::-1]
        local = _LOCAL_BACKWARDS.match(before)
        if local and domain:
            if local.end() == _LONGEST_LOCAL:
                return _EMAIL.sub(lambda found: _hidden(found[0], found[1], found[2], hide), text)
            start = at - local.end()
            parts += [text[end:start], _hidden(text[start : domain.end()], text[start:at], domain[0], hide)]
            end = domain.end()
        at = text.find("@", max(at + 1, end))
    return "".join((*parts, text[end:]))


def _hidden(whole: str, local: str, domain: str, hide: Callable[[str], str]) -> str:
    if local[0] == "p" and _PSEUDONYM.fullmatch(local):
        return whole
    if "%" in local:
        local = local.replace("%2B", "+").replace("%2b", "+")
    return hide(f"{local}@{domain}")


def without_secrets(text: str) -> str:
    """Return a text without what looks like a token, a JWT or a private key."""
    return text if len(text) < _LEAST_SECRET else _SECRET_TEXT.sub(REMOVED, text)


def is_secret_name(name: str) -> bool:
    """Say whether a member of that name holds a secret."""
    return _SECRET_NAME.search(name) is not None
