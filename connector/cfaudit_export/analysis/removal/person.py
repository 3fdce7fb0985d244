"""Identities of a person -> which events name them, and what of these is erased.

An event names a person where one of its texts has an identity as a whole word: `eve@x.org` is neither in `steve@x.org`
nor in `eve@x.org.uk`. Upper and lower case are one, as e-mail addresses are compared.

Of an event that names a person all bodies are erased, as who reads them can tell who is meant; every text with the
identity; and where the person did it, what else belongs to them: address, token, user agent, ray id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.errors import UsageError
from cfaudit_export.proof.rows import BODIES, PLACED
from cfaudit_export.schema import COLUMNS

_SHORTEST = 4
_ACTOR = ("actor_email", "actor_id")
_OF_ACTOR = (*_ACTOR, "actor_ip_address", "actor_token_id", "actor_token_name", "raw_cf_ray_id", "raw_user_agent")
# Behind a line break in JSON, or a character of a URL that is written by its number, a word begins too.
_BEGIN = r"(?:^|[^A-Za-z0-9._%+@-]|\\[nrtbf]|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2})"
_END = r"(?:\.?(?:$|[^A-Za-z0-9.@-]))"
_NEEDED = frozenset(one.name for one in COLUMNS if one.required)


@dataclass(frozen=True, slots=True)
class Person:
    """A person, by all that they are called: e-mail addresses, actor ids.

    Attributes:
        identities: the texts.
    """

    identities: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.identities:
            raise UsageError("say whose events, as in --identity eve@example.com")
        for one in self.identities:
            if len(one.strip()) < _SHORTEST:
                raise UsageError(f"identity '{one}' is too short: it would be found in events of others")

    @property
    def pattern(self) -> str:
        """Return the expression that finds an identity in a text, plain or as a URL has it."""
        forms = {form for one in self.identities for form in (one.strip(), quote(one.strip(), safe=""))}
        return f"(?i){_BEGIN}(?:{'|'.join(map(re.escape, sorted(forms)))}){_END}"


@dataclass(frozen=True, slots=True)
class NamedEvents:
    """Events of a table that name a person.

    Attributes:
        rows: for each event whether it does.
        erased: by column, for each event whether its value is to be erased.
        kept: how often a column that is never null names them; that cannot be erased.
    """

    rows: Any
    erased: dict[str, Any]
    kept: dict[str, int]

    @property
    def count(self) -> int:
        """Return how many do."""
        return pc.sum(self.rows).as_py() or 0


def find_person(events: pa.Table, person: Person) -> NamedEvents:
    """Return which events name a person, and what of them is to be erased."""
    found: dict[str, Any] = {}
    for name in events.column_names:
        if name not in PLACED and pa.types.is_string(events[name].type):
            column = events[name].combine_chunks()
            found[name] = pc.fill_null(pc.match_substring_regex(column, person.pattern), fill_value=False)
    kept = {name: count for name in found.keys() & _NEEDED if (count := pc.sum(found[name]).as_py())}
    erasable = {name: mask for name, mask in found.items() if name not in _NEEDED and name != "replaces"}
    no_row = pa.array([False] * len(events))
    rows = reduce(pc.or_, erasable.values(), no_row)
    did_it = reduce(pc.or_, (erasable[name] for name in _ACTOR if name in erasable), no_row)
    erased = {}
    for name, mask in erasable.items():
        wanted = rows if name in BODIES else pc.or_(mask, did_it) if name in _OF_ACTOR else mask
        erased[name] = pc.and_(wanted, pc.is_valid(events[name].combine_chunks()))
    return NamedEvents(reduce(pc.or_, erased.values(), no_row), erased, kept)


def others_in(events: pa.Table, named: NamedEvents) -> set[str]:
    """Return what else those who did these events are called: e-mail addresses and actor ids."""
    columns = [events[name].filter(named.erased[name]).to_pylist() for name in _ACTOR if name in named.erased]
    return {text for column in columns for text in column if text}


def erased_columns(named: NamedEvents, at: Sequence[int]) -> list[tuple[str, ...]]:
    """Return the names of the columns that are erased of the events at these places."""
    masks = {name: mask.to_pylist() for name, mask in named.erased.items()}
    return [tuple(name for name, mask in masks.items() if mask[row]) for row in at]
