"""A finding -> what people and programs are told of it. No body of an event is in it, and every text is inert."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from cfaudit_export.core.escape import escaped
from cfaudit_export.core.model import iso

if TYPE_CHECKING:
    from cfaudit_export.analysis.rules.model import RuleFinding

_IDS = 5
_LONGEST = 500
_MENTION = re.compile(r"@(?=everyone|here|channel|all\b)", re.IGNORECASE)
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """What is told.

    Attributes:
        id: 32 hex digits, the same whenever the same is told.
        severity: `low`, `medium` or `high`.
        title: one line.
        lines: what else people read.
        data: what programs read.
    """

    id: str
    severity: str
    title: str
    lines: tuple[str, ...]
    data: dict[str, Any]

    @property
    def text(self) -> str:
        """Return what people read."""
        return "\n".join((self.title, *self.lines))

    def body(self, now: datetime) -> bytes:
        """Return the message as JSON; `text` is for chats, where no part of it is markup or calls anyone."""
        chat = _MENTION.sub("@\N{ZERO WIDTH SPACE}", "".join(_MARKUP.get(one, one) for one in self.text))
        tree = {"type": "cfaudit.finding", "timestamp": iso(now), "data": self.data, "text": chat}
        return json.dumps(tree).encode()


def alert_id(rule: str, key: str, first_event_id: str) -> str:
    """Return the id of an alert."""
    return hashlib.sha256(f"{rule}\n{key}\n{first_event_id}".encode()).hexdigest()[:32]


def finding_id(found: RuleFinding) -> str:
    """Return the id of the alert about a finding."""
    return alert_id(found.rule, found.key, found.event_ids[0])


def message_of(found: RuleFinding, place: str, zone: ZoneInfo, held: int = 0) -> AlertMessage:
    """Return what is told of a finding; `held` is how many more of its rule and key were not told meanwhile."""
    actor, credential = _safe(found.actor.shown), _safe(found.credential.shown)
    more = f" (+{found.events - _IDS:,})" if found.events > _IDS else ""
    around = ["--around", iso(found.first), "--window", "2h"]
    name = [] if found.actor.name is None else ["--actor", found.actor.name]
    command = shlex.join(["cfaudit-export", "timeline", "--data", place, *around, *name])
    lines = (
        f"when: {_times(found.first, found.last, zone)}",
        f"who: {actor} by {credential}",
        f"from: {', '.join(map(_safe, found.addresses)) or 'unknown'}",
        f"why: {_safe(found.why)}",
        f"do: {_safe(found.advice)}",
        f"events: {', '.join(map(_safe, found.event_ids[:_IDS]))}{more}",
        *([f"not told since the last message: {held:,} more of this rule and key"] if held else []),
        f"look closer: {_safe(command)}",
    )
    data = {
        "id": finding_id(found),
        "rule": found.rule,
        "severity": found.severity,
        "title": _safe(found.title),
        "key": _safe(found.key),
        "actor": actor,
        "credential": credential,
        "addresses": [_safe(one) for one in found.addresses],
        "first": iso(found.first),
        "last": iso(found.last),
        "events": found.events,
        "event_ids": [_safe(one) for one in found.event_ids],
        "why": _safe(found.why),
        "advice": _safe(found.advice),
        "held": held,
        "command": _safe(command),
    }
    title = f"[{found.severity}] {_safe(found.title)}: {_safe(found.key)}"
    return AlertMessage(finding_id(found), found.severity, title, lines, data)


def message_of_backfill(place: str, events: int, first: datetime, last: datetime, zone: ZoneInfo) -> AlertMessage:
    """Return what is told of events that were old when they arrived, in one message."""
    id_ = alert_id("backfill", place, f"{iso(first)} {iso(last)} {events}")
    command = shlex.join(["cfaudit-export", "findings", "--data", place, "--since", iso(first), "--until", iso(last)])
    lines = (f"when: {_times(first, last, zone)}", f"look closer: {_safe(command)}")
    data = {"id": id_, "rule": "backfill", "severity": "low", "events": events, "first": iso(first), "last": iso(last)}
    return AlertMessage(id_, "low", f"{events:,} older events arrived, and were not judged", lines, data)


def _times(first: datetime, last: datetime, zone: ZoneInfo) -> str:
    here = first.astimezone(zone)
    end = f" to {last.astimezone(zone):%H:%M}" if last > first else ""
    return f"{here:%Y-%m-%d %H:%M}{end} {zone.key} ({iso(first)})"


def _safe(text: str) -> str:
    return escaped(text, _LONGEST)


def one_line(messages: Iterable[AlertMessage]) -> str:
    """Return titles on one line."""
    return "; ".join(one.title for one in messages)
