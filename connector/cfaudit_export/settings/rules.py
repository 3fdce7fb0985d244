"""What can be set about rules: own ones, which of the shipped ones count for how much, and what is known and muted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cfaudit_export.settings import values
from cfaudit_export.settings.option import RULES, Option

SEVERITIES = ("low", "medium", "high")
"""How much a finding deserves a look, the least first."""


@dataclass(frozen=True, slots=True)
class Mute:
    """Findings that are not shown: those of a rule, of all keys or of one, until some time or for good."""

    rule: str
    key: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """What is set about rules.

    Attributes:
        folder: has own rules, `*.sql`; None for none.
        disable: ids of rules that are not asked.
        severity: id of a rule to the severity of what it finds.
        known_addresses: networks that are never new to an actor.
        known_tokens: names of API tokens that are never new to an actor.
        mute: findings that are not shown.
    """

    folder: Path | None = None
    disable: tuple[str, ...] = ()
    severity: Mapping[str, str] = field(default_factory=dict)
    known_addresses: tuple[str, ...] = ()
    known_tokens: tuple[str, ...] = ()
    mute: tuple[Mute, ...] = ()


def _severities(given: Any, now: datetime) -> Mapping[str, str]:
    if not isinstance(given, Mapping):
        raise ValueError('expected a table of rules, as in {member-added = "low"}')  # noqa: TRY004  # what a reader of a setting raises
    return {str(name): values.choice(*SEVERITIES)(one, now) for name, one in given.items()}


def _networks(given: Any, now: datetime) -> tuple[str, ...]:
    found = values.names(given, now)
    for one in found:
        try:
            ip_network(one, strict=False)
        except ValueError:
            raise ValueError(f"expected addresses or networks such as '203.0.113.0/24', not '{one}'") from None
    return found


def _mutes(given: Any, now: datetime) -> tuple[Mute, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(one, Mapping) for one in given):
        raise ValueError('expected a list of tables, as in [{rule = "member-added", key = "ada@example.com"}]')
    return tuple(_mute(one, now) for one in given)


def _mute(given: Mapping[str, Any], now: datetime) -> Mute:
    if unknown := sorted(given.keys() - {"rule", "key", "until"}):
        raise ValueError(f"a mute has rule, key and until, not '{unknown[0]}'")
    if not given.get("rule"):
        raise ValueError("a mute needs the id of its rule")
    until = values.moment(given["until"], now) if "until" in given else None
    return Mute(values.text(given["rule"], now), str(given["key"]) if "key" in given else None, until)


RULE_OPTIONS: tuple[Option, ...] = (
    Option("rules.folder", values.path, "folder of own rules, *.sql", RULES, "DIR"),
    Option("rules.disable", values.names, "ids of rules that are not asked", RULES, "ID"),
    Option(
        "rules.severity",
        _severities,
        "severity of what a rule finds, whatever speaks for or against it: a table of ids",
        RULES,
        "TABLE",
    ),
    Option("rules.known_addresses", _networks, "networks that are never new to an actor", RULES, "NETWORK"),
    Option("rules.known_tokens", values.names, "names of API tokens that are never new to an actor", RULES, "NAME"),
    Option("rules.mute", _mutes, "findings that are not shown: a list of tables of rule, key and until", RULES, "LIST"),
)
