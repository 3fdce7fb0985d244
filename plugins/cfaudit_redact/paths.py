"""Where a value is: `column` or `column:dotted.path` -> a tree of names, by which a document is walked once.

`*` stands for any one name or place of a list, `**` for any depth, none included. A name that has dots, stars or quotes
in it is put in double quotes, with a backslash before quotes and backslashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from cfaudit_redact.config import ACTIONS

_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|(\*\*?)|([^."*]+)')
MOST_PARTS = 100
ANY = "*"
DEEP = "**"


@dataclass(slots=True)
class PathRule:
    """What is done with a value, and how often it was.

    Attributes:
        action: one of `ACTIONS`.
        text: the rule as it was written.
        column: where the value is.
        path: the way to it in a column of JSON; empty for the column itself.
        is_own: whether the settings name it; a rule of a preset may well match nothing.
        count: how many values it matched.
        kind: what the value is, by the last name of the way to it; equal values of one kind get one pseudonym.
    """

    action: str
    text: str
    column: str
    path: tuple[str | Star, ...] = ()
    is_own: bool = True
    count: int = 0
    kind: str = field(init=False)

    def __post_init__(self) -> None:
        named = [one for one in self.path if isinstance(one, str)] or [self.column]
        self.kind = kind_of(named[-1])


@dataclass(frozen=True, slots=True)
class Star:
    """A part of a path that stands for more than one name: any of a level, or any depth."""

    is_deep: bool = False


def kind_of(name: str) -> str:
    """Return `email`, `ip`, `id` or `text` for a name of a value."""
    lower = name.lower()
    if "email" in lower:
        return "email"
    if lower == "ip" or lower.endswith(("_ip", "ip_address", "ipaddress")):
        return "ip"
    return "id" if lower == "id" or lower.endswith("_id") else "text"


@dataclass(slots=True)
class Node:
    """A place in a document: what is below it, and what is done there.

    Attributes:
        names: what is below, by name.
        star: what is below any name.
        deep: what may follow at any depth from here on.
        is_deep: whether it stays a place of what is below it.
        rule: what is done with the value here.
    """

    names: dict[str, Node] = field(default_factory=dict)
    star: Node | None = None
    deep: Node | None = None
    is_deep: bool = False
    rule: PathRule | None = None

    @property
    def is_plain(self) -> bool:
        """Say whether nothing below stands for more than one name."""
        return self.star is None and self.deep is None and all(one.is_plain for one in self.names.values())


def parse_path(text: str) -> tuple[str | Star, ...]:
    """Return the parts of a path.

    Raises:
        ValueError: it is none; the text says where.
    """
    parts: list[str | Star] = []
    at = 0
    while True:
        found = _PART.match(text, at)
        if found is None:
            raise ValueError(f"path '{text}' has no name at character {at + 1}; quote names with dots: \"a.b\"")
        quoted, star, plain = found.groups()
        if star:
            parts.append(Star(is_deep=star == DEEP))
        else:
            parts.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain.strip())
        if len(parts) > MOST_PARTS:
            raise ValueError(f"a path has at most {MOST_PARTS} parts")
        at = found.end()
        if at == len(text):
            return tuple(parts)
        if text[at] != ".":
            raise ValueError(f"path '{text}' has no dot at character {at + 1}; quote names with dots: \"a.b\"")
        at += 1


def tree_of(rules: Iterable[PathRule]) -> Node:
    """Return the tree of the rules of one column; where two name one value, that of the earlier action counts."""
    root = Node()
    for rule in sorted(rules, key=lambda one: ACTIONS.index(one.action)):
        node = root
        for part in rule.path:
            node = _below(node, part)
        node.rule = node.rule or rule
    return root


def _below(node: Node, part: str | Star) -> Node:
    if isinstance(part, str):
        return node.names.setdefault(part, Node())
    if part.is_deep:
        node.deep = node.deep or Node(is_deep=True)
        return node.deep
    node.star = node.star or Node()
    return node.star


Places = tuple[Node, ...]
"""The nodes that a value is at: several, where stars lead to it."""


def places_of(nodes: Iterable[Node]) -> Places:
    """Return nodes with those that follow at no depth."""
    found: list[Node] = []
    for node in nodes:
        found.append(node)
        below = node.deep
        while below is not None:
            found.append(below)
            below = below.deep
    return tuple(found)


def step(places: Places, name: str | None) -> Places:
    """Return where a member of that name is, or an item of a list, which has no name."""
    found: list[Node] = []
    for node in places:
        if name is not None and (below := node.names.get(name)):
            found.append(below)
        if node.star:
            found.append(node.star)
        if node.is_deep:
            found.append(node)
    return places_of(found) if found else ()


def rule_at(places: Places) -> PathRule | None:
    """Return what is done with a value."""
    rules = [node.rule for node in places if node.rule]
    return min(rules, key=lambda one: ACTIONS.index(one.action)) if rules else None
