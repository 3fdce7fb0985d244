"""A question and the data in, sequences out: sessions of one actor and credential, made of folded steps.

A session ends where its actor does nothing by that credential for half an hour. Steps that follow each other and differ
in nothing but time and target are one step, with a count.
"""

# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cfaudit_export.analysis.answers.before_after import BodyChange, changes_before
from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.queries import HOW, WHO, actor, credential
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.vocabulary import ACTION, RESULT, Actor, UsedCredential
from cfaudit_export.analysis.files.database import EVENTS, EventDatabase
from cfaudit_export.analysis.files.footers import Ignored
from cfaudit_export.errors import UsageError

GAP = timedelta(minutes=30)
"""What separates two sessions."""

MOST_EVENTS = 200_000
"""How many events a timeline is made of at most; more cannot be read by a person."""

COMPARED = 200
"""How many changes are compared with the event before at most: of the first steps of one event."""

_TARGETS = 3
_ACTOR_COLUMNS = ("actor_email", "actor_id", "actor_token_name", "actor_token_id", "actor_type")
_RESOURCE_COLUMNS = ("resource_id", "zone_name", "zone_id", "resource_type", "resource_product")
_ALIKE = ("action", "description", "product", "type", "result", "findings")


@dataclass(frozen=True, slots=True)
class Focus:
    """What a timeline is about; None stands for everything.

    Attributes:
        actor: e-mail address, id, type, or name or id of a token.
        resource: id, type or product of a resource, or name or id of a zone.
        around: what others did is shown beside it when a moment is asked about.
    """

    actor: str | None = None
    resource: str | None = None
    around: datetime | None = None


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """The same thing done once, or several times in a row.

    Attributes:
        first: when it was done first.
        last: when it was done last.
        event_id: of the first event.
        count: how often.
        action: `create`, `update`, `delete`, ...; `unknown`.
        description: what was done, as the records describe it.
        product: of the resource.
        type: of the resource.
        result: `success`, `failure`, ...; `unknown`.
        targets: some names of zones, or ids of resources, that it was done to.
        more_targets: how many there are beside them.
        findings: what deserves a look about it: `high: DNSSEC switched off`.
        change: what it changed, of a step of one event; None where there is nothing to compare with.
    """

    first: datetime
    last: datetime
    event_id: str
    count: int
    action: str
    description: str | None
    product: str | None
    type: str | None
    result: str
    targets: tuple[str, ...]
    more_targets: int
    findings: tuple[str, ...] = ()
    change: BodyChange | None = None


@dataclass(frozen=True, slots=True)
class ActorSession:
    """What one actor did by one credential, without a pause.

    Attributes:
        actor: who.
        credential: by what.
        first: start.
        last: end.
        events: how many.
        failures: how many of them are known to have failed.
        addresses: from where, as far as records say.
        steps: in order.
        begins_before: whether it had begun before the period.
        goes_on: whether it went on after the period.
    """

    actor: Actor
    credential: UsedCredential
    first: datetime
    last: datetime
    events: int
    failures: int
    addresses: tuple[str, ...]
    steps: tuple[TimelineStep, ...]
    begins_before: bool
    goes_on: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """The sessions of a period, by their start.

    Attributes:
        question: what was asked.
        focus: what it is about.
        location: where the data is.
        made_at: when it was made.
        ignored: files that were skipped.
        coverage: what of the period the data can speak for.
        sessions: what was asked about.
        others: what others did; empty unless a moment was asked about.
        proof: what was proved of the files; empty where that was not asked.
    """

    question: Question
    focus: Focus
    location: str
    made_at: datetime
    ignored: tuple[Ignored, ...]
    coverage: Coverage
    sessions: tuple[ActorSession, ...]
    others: tuple[ActorSession, ...]
    proof: str = ""


def make_timeline(
    data: EventDatabase,
    question: Question,
    focus: Focus,
    *,
    coverage: Coverage,
    now: datetime,
    findings: Mapping[str, tuple[str, ...]] | None = None,
) -> Timeline:
    """Return the timeline; `findings` are what deserves a look, by id of the event.

    Raises:
        UsageError: there are more than `MOST_EVENTS` events.
        CfauditError: the data cannot be read.
    """
    rows = _events(data, question, focus)
    for row in rows:
        row["findings"] = (findings or {}).get(row["event_id"], ())
    sessions = _sessions((row for row in rows if row["in_focus"]), question)
    has_focus = focus.actor is not None or focus.resource is not None
    others = [row for row in rows if not row["in_focus"]] if focus.around and has_focus else []
    return Timeline(
        question=question,
        focus=focus,
        location=data.place.shown,
        made_at=now,
        ignored=data.listing.ignored,
        coverage=coverage,
        sessions=_compared(data, sessions),
        others=_sessions(others, question),
    )


def _compared(data: EventDatabase, sessions: tuple[ActorSession, ...]) -> tuple[ActorSession, ...]:
    """Return sessions whose first steps of one event say what they changed."""
    single = [step.event_id for session in sessions for step in session.steps if step.count == 1][:COMPARED]
    found = changes_before(data, single)
    return tuple(
        replace(one, steps=tuple(replace(step, change=found.get(step.event_id)) for step in one.steps))
        for one in sessions
    )


def _events(data: EventDatabase, question: Question, focus: Focus) -> list[dict[str, Any]]:
    """Return the events of the period, and those around it by which it is known whether a session is whole."""
    condition, values = question.condition()
    values |= {"since": question.period.since - GAP, "before": question.period.before + GAP}
    matches = ["TRUE"]
    for name, columns in (("actor", _ACTOR_COLUMNS), ("resource", _RESOURCE_COLUMNS)):
        if (wanted := getattr(focus, name)) is not None:
            matches.append(" OR ".join(f"lower({column}) = $focus_{name}" for column in columns))
            values[f"focus_{name}"] = wanted.lower()
    in_focus = " AND ".join(f"coalesce(({match}), FALSE)" for match in matches)
    rows = data.ask(
        f"""SELECT event_id, event_time AS time, {in_focus} AS in_focus, {WHO}, {HOW},
            {ACTION} AS action, {RESULT} AS result,
            nullif(action_description, '') AS description, nullif(resource_product, '') AS product,
            nullif(resource_type, '') AS type, coalesce(zone_name, resource_id) AS target,
            nullif(actor_ip_address, '') AS address
        FROM {EVENTS} WHERE event_time >= $since AND event_time < $before AND {condition}
        ORDER BY event_time, event_id LIMIT {MOST_EVENTS + 1}""",
        values,
    )
    if len(rows) > MOST_EVENTS:
        raise UsageError(f"the period has more than {MOST_EVENTS:,} events; choose a shorter one")
    return rows


def _sessions(rows: Iterable[Mapping[str, Any]], question: Question) -> tuple[ActorSession, ...]:
    """Return the sessions that have an event in the period."""
    latest: dict[tuple[Actor, UsedCredential], list[Mapping[str, Any]]] = {}
    runs = []
    for row in rows:
        key = (actor(row), credential(row))
        run = latest.get(key)
        if run is None or row["time"] - run[-1]["time"] > GAP:
            run = latest[key] = []
            runs.append((key, run))
        run.append(row)
    found = (_session(*key, run, question) for key, run in runs)
    return tuple(sorted((one for one in found if one), key=lambda one: (one.first, one.actor, one.credential.kind)))


def _session(who: Actor, how: UsedCredential, run: list[Mapping[str, Any]], question: Question) -> ActorSession | None:
    period = question.period
    rows = [row for row in run if period.since <= row["time"] < period.before]
    if not rows:
        return None
    return ActorSession(
        actor=who,
        credential=how,
        first=rows[0]["time"],
        last=rows[-1]["time"],
        events=len(rows),
        failures=sum(row["result"] == "failure" for row in rows),
        addresses=tuple(dict.fromkeys(row["address"] for row in rows if row["address"])),
        steps=tuple(_steps(rows)),
        begins_before=run[0]["time"] < period.since,
        goes_on=run[-1]["time"] >= period.before,
    )


def _steps(rows: Iterable[Mapping[str, Any]]) -> Iterator[TimelineStep]:
    folded: list[Mapping[str, Any]] = []
    for row in rows:
        if folded and any(row[name] != folded[0][name] for name in _ALIKE):
            yield _step(folded)
            folded = []
        folded.append(row)
    if folded:
        yield _step(folded)


def _step(rows: list[Mapping[str, Any]]) -> TimelineStep:
    targets = list(dict.fromkeys(row["target"] for row in rows if row["target"]))
    return TimelineStep(
        first=rows[0]["time"],
        last=rows[-1]["time"],
        event_id=rows[0]["event_id"],
        count=len(rows),
        **{name: rows[0][name] for name in _ALIKE},
        targets=tuple(targets[:_TARGETS]),
        more_targets=max(len(targets) - _TARGETS, 0),
    )
