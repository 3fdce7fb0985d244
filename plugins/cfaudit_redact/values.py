"""A value -> its pseudonym, its ciphertext, or the network of its address; each different one is computed once."""

from __future__ import annotations

import base64
import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from cfaudit_redact.keys import KeyRing, PeriodKey

KINDS = ("email", "ip", "id", "text")
_MOST_REMEMBERED = 100_000
_CIPHERTEXT = re.compile(r"\be(\d{1,9})_([A-Za-z0-9_-]{22,})")


@dataclass(slots=True)
class Hider:
    """What hides values under keys.

    Attributes:
        email_domain: whether the pseudonym of an e-mail address keeps its domain.
    """

    email_domain: bool = False
    _known: dict[tuple[int, str, str], str] = field(default_factory=dict, repr=False)

    def pseudonym(self, key: PeriodKey, kind: str, value: str) -> str:
        """Return `p`, the id of the key, and 32 hexadecimal digits; the same for equal values of one kind."""
        name = (key.id, kind, value)
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            found = self._known[name] = self._pseudonym(key, kind, value)
        return found

    def _pseudonym(self, key: PeriodKey, kind: str, value: str) -> str:
        text = normal_email(value) if kind == "email" else value
        named = kind.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
        made = f"p{key.id}_{key.digest(named)}"
        domain = text.rpartition("@")[2] if "@" in text else ""
        return f"{made}@{domain}" if self.email_domain and kind == "email" and domain else made


def normal_email(value: str) -> str:
    """Return an e-mail address as it is compared: lower case, composed characters (NFC)."""
    return unicodedata.normalize("NFC", value.lower())


def encrypted(key: PeriodKey, kind: str, value: str) -> str:
    """Return `e`, the id of the key, and the AES-SIV of a value (RFC 5297) in base64url; equal for equal values."""
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    if not value:
        return value
    sealed = AESSIV(key.encryption_key).encrypt(value.encode("utf-8", "surrogatepass"), [kind.encode()])
    return f"e{key.id}_{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}"


def revealed(ring: KeyRing, text: str) -> str:
    """Return a text with every ciphertext in it decrypted, of which the key is known."""
    keys = {key.id: key for key in ring.keys if key.mark}

    def plain(found: re.Match[str]) -> str:
        key = keys.get(int(found[1]))
        return found[0] if key is None else next(_decrypted(key, found[2]), found[0])

    return _CIPHERTEXT.sub(plain, text)


def _decrypted(key: PeriodKey, text: str) -> Iterator[str]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for kind in KINDS:
        try:
            opened = AESSIV(key.encryption_key).decrypt(sealed, [kind.encode()])
        except (InvalidTag, ValueError):
            continue
        yield opened.decode("utf-8", "surrogatepass")


def cut_ip(value: str) -> str | None:
    """Return the first address of the network of an address: 24 bits of IPv4, 48 of IPv6; None for what is none."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    rest = address.max_prefixlen - (24 if address.version == 4 else 48)
    return str(type(address)(int(address) >> rest << rest))
