"""Accounts as they are every week, made by the sandbox; events of stories; and what the rules find."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.files.database import EventDatabase, open_data
from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.rules.findings import find, history_start
from cfaudit_export.analysis.rules.load import load_rules
from cfaudit_export.analysis.rules.model import Findings
from cfaudit_export.core.model import Window
from cfaudit_export.settings import RuleSettings
from cfaudit_sandbox import SandboxOptions, World

Row = dict[str, Any]
END = datetime(2026, 11, 30, tzinfo=UTC)  # a Monday begins
EVIL = "203.0.113.66"


def whole(record: Mapping[str, Any], account: str) -> Row:
    """Return a record of the sandbox as a row of the schema."""
    actor, action, thing = (record.get(name) or {} for name in ("actor", "action", "resource"))
    token = actor.get("token") or {"id": actor.get("token_id"), "name": actor.get("token_name")}
    time = action["time"]
    at = datetime.fromisoformat(time if len(time) > len("2026-11-30T00:00Z") else time.replace("Z", ":00Z"))
    row = {
        "event_id": record["id"],
        "event_key": record["id"],
        "event_time": at,
        "account_id": account,
        "action_type": action.get("type"),
        "action_result": action.get("result"),
        "action_description": action.get("description"),
        "actor_id": actor.get("id"),
        "actor_type": actor.get("type"),
        "actor_email": actor.get("email"),
        "actor_context": actor.get("context"),
        "actor_ip_address": actor.get("ip_address"),
        "actor_token_id": token["id"],
        "actor_token_name": token["name"],
        "resource_id": thing.get("id"),
        "resource_type": thing.get("type"),
        "resource_product": thing.get("product"),
        "resource_request": json.dumps(thing["request"]) if "request" in thing else None,
        "zone_name": (record.get("zone") or {}).get("name"),
        "fidelity": "full",
        "source": "codemode",
        "ingested_at": at + timedelta(minutes=5),
    }
    return {name: _storable(value) for name, value in row.items()}


def _storable(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def ordinary_rows(days: int, per_day: int, seed: int = 3, end: datetime = END) -> list[Row]:
    """Return the events of an account on which nothing special happens."""
    options = SandboxOptions(
        events=days * per_day, span_seconds=days * 86_400.0, end_at=end, seed=seed, twins=0.0, ties=0.0
    )
    world = World(options, (end + timedelta(hours=1)).timestamp)
    account = world.accounts[0].id
    return [whole(one, account) for one in world.records(account)]


@dataclass
class Story:
    """Events of a story, in order; each call adds one a minute later."""

    account: str
    now: datetime
    rows: list[Row]

    def wait(self, **length: float) -> None:
        """Let time pass."""
        self.now += timedelta(**length)

    def add(self, thing: str, action: str, said: str, **columns: Any) -> Row:
        """Add an event: `thing` is product and type."""
        self.now += timedelta(minutes=1)
        product, _, kind = thing.partition("/")
        row = {
            "event_id": f"story-{self.account[:4]}-{self.now.timestamp():.0f}",
            "event_time": self.now,
            "account_id": self.account,
            "action_type": action,
            "action_description": said,
            "action_result": "success",
            "actor_email": "jonas.ekberg@example.com",
            "actor_type": "user",
            "actor_context": "dash",
            "actor_ip_address": EVIL,
            "resource_product": product,
            "resource_type": kind,
            "fidelity": "full",
            "source": "codemode",
            "ingested_at": self.now + timedelta(minutes=5),
        }
        row |= columns
        row["event_key"] = row["event_id"]
        self.rows.append(row)
        return row


@contextmanager
def opened(folder: Path, period: Window) -> Iterator[EventDatabase]:
    history = Window(history_start(period.since), period.before)
    with open_data(open_location(str(folder)), history, limits=Limits(threads=1)) as data:
        yield data


def judged(folder: Path, period: Window, settings: RuleSettings | None = None, **options: Any) -> Findings:
    """Return what the rules find in the files of a folder."""
    question = options.pop("question", None) or Question(period, zone="Europe/Berlin")
    with opened(folder, period) as data:
        return find(data, question, load_rules(settings or RuleSettings()), **options)
