"""JSON texts, walked by a tree of rules and written anew.

What has nothing to be done in it keeps its bytes. What is written anew is compact, its names in the order received and
its numbers digit by digit; of members with one name the last counts, so that what it hides cannot stand in another one.
What cannot be read is dropped whole, and counted: what is in it is not known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cfaudit_redact.paths import Node, PathRule, Places, places_of, rule_at, step
from cfaudit_redact.scrub import (
    REMOVED,
    is_secret_name,
    may_have_email,
    may_have_secret,
    plain_emails,
    without_emails,
    without_secrets,
)

_MOST_REMEMBERED = 20_000

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
# A number with a point or an exponent is kept as it was written.
_WHOLE = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(text.encode()))
_ANY = msgspec.json.Decoder(msgspec.Raw)
_ENCODE = msgspec.json.Encoder().encode

Apply = Callable[[PathRule, str], str | None]
"""Hides a text as a rule says; None to drop it."""


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """What is removed wherever it stands.

    Attributes:
        emails: whether e-mail addresses are.
        secrets: whether what looks like a secret is.
        hide: returns what takes the place of an e-mail address.
    """

    emails: bool
    secrets: bool
    hide: Callable[[str], str]

    def text(self, text: str) -> str:
        """Return a text without them."""
        if self.emails:
            text = without_emails(text, self.hide)
        return without_secrets(text) if self.secrets else text

    def name(self, name: str) -> str:
        """Return the name of a member without e-mail addresses."""
        return without_emails(name, self.hide) if self.emails else name

    def concerns(self, text: str) -> bool:
        """Say whether there may be anything to remove in the strings of a JSON text."""
        return (self.emails and may_have_email(text)) or (self.secrets and may_have_secret(text))


@dataclass(slots=True)
class Documents:
    """The JSON texts of one column.

    Attributes:
        tree: what is done where.
        kept: the tree of what stays; None where all does.
        dropped: texts that could not be read, and are gone.
    """

    tree: Node
    kept: Node | None = None
    dropped: int = 0
    _is_plain: bool = False
    _parts: dict[tuple[int, str, bytes], bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._is_plain = self.kept is None and self.tree.is_plain and self.tree.rule is None

    @property
    def has_rules(self) -> bool:
        """Say whether any path is named, so that every text has to be looked at."""
        return not self._is_plain or bool(self.tree.names)

    def hidden(self, text: str, apply: Apply, scrubbing: Scrubbing, period: int) -> str | None:
        """Return a text with what is to be hidden in it hidden; None where it cannot be read.

        Args:
            text: the JSON.
            apply: hides a value, by the key of the period.
            scrubbing: what is removed wherever it stands.
            period: stands for the key.
        """
        try:
            if self._is_plain and not scrubbing.secrets:
                if self.tree.names:
                    text = self._by_members(text, apply, period)
                if not scrubbing.concerns(text):
                    return text
                if "\\" not in text:  # then a text and what it says are the same, string by string
                    _ANY.decode(text)
                    return plain_emails(text, scrubbing.hide)
                return self._rewritten(text, Node(), apply, scrubbing)
            if self.kept is None and self._is_plain and not self.tree.names and not scrubbing.concerns(text):
                return text
            return self._rewritten(text, self.tree, apply, scrubbing)
        except (ValueError, RecursionError, OverflowError, msgspec.DecodeError):
            self.dropped += 1
            return None

    # -- paths of names: only what is on the way is read ----------------------------------------------

    def _by_members(self, text: str, apply: Apply, period: int) -> str:
        try:
            members = _MEMBERS.decode(text)
        except msgspec.ValidationError:  # it is no object, so that no path leads into it
            return text
        except msgspec.DecodeError:
            return _written(*_read(text), self.tree, apply, None)
        return self._members(members, self.tree, apply, period).decode() if self._meets(members) else text

    def _meets(self, members: dict[str, msgspec.Raw]) -> bool:
        return not self.tree.names.keys().isdisjoint(members)

    def _members(self, members: dict[str, msgspec.Raw], node: Node, apply: Apply, period: int) -> bytes:
        for name, below in node.names.items():
            if name in members:
                raw = bytes(members[name])
                known = (period, name, raw) if node is self.tree else None
                done = self._parts.get(known) if known and not below.rule else None
                if done is None:
                    done = self._member(raw, below, apply, period)
                    if known and not below.rule:
                        if len(self._parts) >= _MOST_REMEMBERED:
                            self._parts.clear()
                        self._parts[known] = done
                members[name] = msgspec.Raw(done)
        return _ENCODE(members)

    def _member(self, raw: bytes, node: Node, apply: Apply, period: int) -> bytes:
        if node.rule:
            return _ENCODE(_leaves(_WHOLE.decode(raw), node.rule, apply))
        try:
            members = _MEMBERS.decode(raw)
        except msgspec.ValidationError:
            return raw
        return self._members(members, node, apply, period)

    # -- all the rest: read whole ---------------------------------------------------------------------

    def _rewritten(self, text: str, tree: Node, apply: Apply, scrubbing: Scrubbing) -> str | None:
        value, is_strict = _read(text)
        if self.kept is not None:
            value = _projected(value, places_of([self.kept]))
            if value is _GONE:
                return None
        return _written(value, is_strict, tree, apply, scrubbing)


def _written(value: Any, is_strict: bool, tree: Node, apply: Apply, scrubbing: Scrubbing | None) -> str:  # noqa: FBT001  # as `_read` returns it
    walked = _walked(value, places_of([tree]), apply, scrubbing, None)
    return _ENCODE(walked).decode() if is_strict else json.dumps(walked, separators=(",", ":"))


def _read(text: str) -> tuple[Any, bool]:
    """Return what a text says, and whether a strict reader reads it; what only `json` reads, only it can write.

    Raises:
        ValueError: neither does.
        RecursionError: it is too deep.
    """
    try:
        return _WHOLE.decode(text), True
    except msgspec.DecodeError:
        return json.loads(text), False


_GONE = object()


def _projected(value: Any, places: Places) -> Any:
    """Return of a value what is at the end of a path, or on the way there."""
    if (rule := rule_at(places)) is not None:
        rule.count += 1
        return value
    if isinstance(value, dict):
        below = {name: _projected(one, step(places, name)) for name, one in value.items()}
        left: Any = {name: one for name, one in below.items() if one is not _GONE}
    elif isinstance(value, list):
        items = (_projected(one, step(places, None)) for one in value)
        left = [one for one in items if one is not _GONE]
    else:
        return _GONE
    return left or _GONE


def _walked(value: Any, places: Places, apply: Apply, scrubbing: Scrubbing | None, name: str | None) -> Any:
    if places and (rule := rule_at(places)):
        return _leaves(value, rule, apply)
    if isinstance(value, dict):
        return {
            scrubbing.name(key) if scrubbing else key: _walked(one, step(places, key), apply, scrubbing, key)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_walked(one, step(places, None), apply, scrubbing, name) for one in value]
    if scrubbing is None or not isinstance(value, str):
        return value
    if scrubbing.secrets and value and name is not None and is_secret_name(name):
        return REMOVED
    return scrubbing.text(value)


def _leaves(value: Any, rule: PathRule, apply: Apply) -> Any:
    """Return a value with everything in it hidden; a list and an object keep their form, unless they are dropped."""
    if value is None:
        return None
    rule.count += 1
    return None if rule.action == "drop" else _each(value, rule, apply)


def _each(value: Any, rule: PathRule, apply: Apply) -> Any:
    if isinstance(value, dict):
        return {name: _each(one, rule, apply) for name, one in value.items()}
    if isinstance(value, list):
        return [_each(one, rule, apply) for one in value]
    if value is None:
        return None
    if isinstance(value, str):
        return apply(rule, value)
    return apply(rule, bytes(value).decode() if isinstance(value, msgspec.Raw) else json.dumps(value))
