"""The keys of pseudonyms: which one counts at a time, and what is derived from it.

[[key]]
id = 1
from = 2026-01-01T00:00:00Z
secret = "base64 of 32 bytes or more"

The key of an event is that of its own time, so that a window that is read again gives the same pseudonyms. A key that
was destroyed stays in the file without its secret: then events of its time are refused, and no other key takes them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tomllib
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cfaudit_export import SettingsError
from cfaudit_export.core.secret_file import read_secret_file

_LEAST_BYTES = 32
_KNOWN = frozenset({"id", "from", "secret", "secret_file", "secret_env"})
_HOLDERS = ("secret", "secret_file", "secret_env")
_WHAT = "key"


@dataclass(frozen=True, slots=True)
class PeriodKey:
    """A key, from a time on.

    Attributes:
        id: stands in every pseudonym.
        since: from then on it counts, until that of the next one.
        mark: 8 hexadecimal digits that tell it from another one of the same id; empty for one that was destroyed.
    """

    id: int
    since: datetime
    mark: str
    _pseudonym: bytes = field(repr=False)
    _encrypt: bytes = field(repr=False)

    def digest(self, text: bytes) -> str:
        """Return the 32 hexadecimal digits of a pseudonym."""
        return hashlib.blake2b(text, key=self._pseudonym, digest_size=16).hexdigest()

    @property
    def encryption_key(self) -> bytes:
        """Return the 64 bytes by which values are encrypted."""
        return self._encrypt


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys, ascending by their times."""

    keys: tuple[PeriodKey, ...] = ()

    @property
    def moments(self) -> tuple[datetime, ...]:
        """Return the times at which another key begins to count."""
        return tuple(key.since for key in self.keys)

    def number_at(self, at: datetime) -> int:
        """Return the number of the key of a time, from 1; 0 where there is none."""
        return bisect_right(self.moments, at)

    def key(self, number: int, at: datetime) -> PeriodKey:
        """Return a key by its number.

        Raises:
            SettingsError: there is none for this time, or it was destroyed.
        """
        if not number:
            raise SettingsError(f"no key for {at:%Y-%m-%d}: the earliest in keys_file counts from a later time on")
        found = self.keys[number - 1]
        if not found.mark:
            raise SettingsError(f"no key for {at:%Y-%m-%d}: key {found.id} has no secret any more")
        return found

    @property
    def memo(self) -> str:
        """Return which key counts from when on, to be compared by a later run; nothing of it is secret."""
        return " ".join(f"{key.id}@{key.since:%Y-%m-%dT%H:%M:%SZ}#{key.mark}" for key in self.keys)

    def resume(self, memo: str, until: datetime) -> None:
        """Compare with what an earlier run had.

        Args:
            memo: what it had.
            until: the end of what was exported with it.

        Raises:
            SettingsError: events of that time would get other pseudonyms now.
        """
        were = [_remembered(one) for one in memo.split()]
        moments = sorted({at for at, *_ in were} | {*self.moments})
        for at in moments:
            had = next((one for one in reversed(were) if one[0] <= at), None)
            number = self.number_at(at)
            now = self.keys[number - 1] if number else None
            if at >= until or had is None or not had[2] or now is None or not now.mark:
                continue
            if (now.id, now.mark) != had[1:]:
                raise SettingsError(
                    f"key {now.id} counts from {now.since:%Y-%m-%dT%H:%M:%SZ} on, but events until "
                    f"{until:%Y-%m-%dT%H:%M:%SZ} were exported with key {had[1]}; give it a later 'from'"
                )


def _remembered(text: str) -> tuple[datetime, int, str]:
    number, _, rest = text.partition("@")
    at, _, mark = rest.partition("#")
    return datetime.fromisoformat(at), int(number), mark


def load_keys(path: Path) -> KeyRing:
    """Return the keys in a file.

    Raises:
        SettingsError: it cannot be read, others may read it, or it does not hold keys as it should.
    """
    try:
        tree = tomllib.loads(read_secret_file(path, what=_WHAT).decode())
    except ValueError:  # what it says may show a part of the file
        raise SettingsError(f"'{path}' is not valid TOML; it holds tables [[key]] with id, from and secret") from None
    given = tree.get("key")
    if set(tree) != {"key"} or not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise SettingsError(f"'{path}' must hold tables [[key]] with id, from and secret, and nothing else")
    keys = [_key(one, path, at) for at, one in enumerate(given, 1)]
    for name, values in (("id", [key.id for key in keys]), ("from", [key.since for key in keys])):
        if len(set(values)) < len(values):
            raise SettingsError(f"two keys in '{path}' have one '{name}'")
    return KeyRing(tuple(sorted(keys, key=lambda key: key.since)))


def _key(given: dict[str, Any], path: Path, at: int) -> PeriodKey:
    where = f"key number {at} in '{path}'"
    if unknown := given.keys() - _KNOWN:
        raise SettingsError(f"{where} has '{min(unknown)}'; known are {', '.join(sorted(_KNOWN))}")
    number, since = given.get("id"), given.get("from")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise SettingsError(f"{where} needs an id, a whole number from 1")
    if not isinstance(since, datetime) or since.tzinfo is None or since.microsecond:
        raise SettingsError(f"{where} needs 'from', whole seconds with a zone, as in from = 2026-01-01T00:00:00Z")
    secret = _secret(given, path, where)
    if not secret:
        return PeriodKey(number, since.astimezone(UTC), "", b"", b"")
    derived = [
        hashlib.blake2b(key=secret, digest_size=64, person=use).digest() for use in (b"pseudonym", b"encrypt", b"mark")
    ]
    return PeriodKey(number, since.astimezone(UTC), derived[2].hex()[:8], *derived[:2])


def _secret(given: dict[str, Any], path: Path, where: str) -> bytes:
    """Return the secret of a key, at most 64 bytes; none of one that was destroyed."""
    named = [name for name in _HOLDERS if name in given]
    if not named:
        return b""
    text = given[named[0]]
    if len(named) > 1 or not isinstance(text, str):
        raise SettingsError(f"{where} takes one of {', '.join(_HOLDERS)}, a text")
    if named[0] == "secret_file":
        text = read_secret_file((path.parent / text).expanduser(), what=_WHAT).decode(errors="replace")
    elif named[0] == "secret_env":
        name, text = text, os.environ.get(text, "")
        if not text:
            raise SettingsError(f"{where} is in the variable '{name}', which is not set")
    try:
        secret = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raise SettingsError(f"the secret of {where} is not base64; make one: openssl rand -base64 32") from None
    if len(secret) < _LEAST_BYTES:
        raise SettingsError(f"the secret of {where} has {len(secret)} bytes, and {_LEAST_BYTES} are the least")
    return secret if len(secret) <= 64 else hashlib.sha512(secret).digest()
