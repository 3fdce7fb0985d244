"""The values of rules and findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.vocabulary import Actor, UsedCredential
from cfaudit_export.analysis.files.footers import Ignored
from cfaudit_export.settings.rules import SEVERITIES, Mute

HISTORY = timedelta(days=90)
"""How far before the period rules look for what is usual."""

PAUSE = timedelta(hours=2)
"""What separates two episodes of an actor."""

Kind = Literal["match", "burst", "first", "window", "own"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What deserves a look, and when.

    Attributes:
        id: names it in settings.
        title: what happened, in a few words.
        severity: of what it finds, when something speaks for it.
        kind: `match` looks at single events, `burst` at how many there are in some minutes, `first` at values that an
            actor never had before, `window` is one of a kind; `own` is SQL of the user.
        advice: what to do, in one sentence.
        when: SQL over the columns of `scan.EVENT`: which events.
        sure: SQL over the same columns: which of them need no look at their bodies; empty for all.
        body: SQL over `request`, `response` and `value`, in lower case: which of the others.
        alone: whether it has its severity without anything that speaks for it.
        key: what its findings are told apart by.
        needs: columns without which an event cannot be judged.
        count: of a burst.
        minutes: of a burst.
        per_address: whether events from different addresses are bursts of their own.
        sql: of an own rule.
    """

    id: str
    title: str
    severity: str
    kind: Kind
    advice: str
    when: str = "FALSE"
    sure: str = ""
    body: str = ""
    alone: bool = False
    key: Literal["actor", "target"] = "actor"
    needs: tuple[str, ...] = ()
    count: int = 0
    minutes: int = 60
    per_address: bool = False
    sql: str = ""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules that count.

    Attributes:
        rules: all of them.
        known_addresses: networks that are never new.
        known_tokens: names of API tokens that are never new.
        mute: findings that are not shown.
        fixed: ids of rules whose severity was set, and holds whatever speaks for or against it.
    """

    rules: tuple[Rule, ...]
    known_addresses: tuple[str, ...] = ()
    known_tokens: tuple[str, ...] = ()
    mute: tuple[Mute, ...] = ()
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """What deserves a look.

    Attributes:
        rule: id of the rule.
        title: what happened, in a few words.
        severity: `low`, `medium` or `high`.
        key: what tells findings of the rule apart: an actor, or what it was done to.
        actor: who; of several events the first one's.
        credential: by what, likewise.
        addresses: from where, as far as records say; five at most.
        first: time of the first event.
        last: time of the last one.
        events: how many there are.
        event_ids: of the first hundred.
        why: what was seen, and what speaks for a look.
        advice: what to do.
    """

    rule: str
    title: str
    severity: str
    key: str
    actor: Actor
    credential: UsedCredential
    addresses: tuple[str, ...]
    first: datetime
    last: datetime
    events: int
    event_ids: tuple[str, ...]
    why: str
    advice: str


@dataclass(frozen=True, slots=True)
class Unjudged:
    """Events that rules could not judge, as the source did not give a column of them.

    Attributes:
        column: what is not known of them; `bodies` stands for what was sent.
        events: how many.
        rules: ids of the rules.
    """

    column: str
    events: int
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Episode:
    """Findings of one actor without a pause of two hours, as they followed each other.

    Attributes:
        actor: who.
        severity: the worst of them.
        first: time of the first event.
        last: time of the last one.
        findings: by time.
    """

    actor: Actor
    severity: str
    first: datetime
    last: datetime
    findings: tuple[RuleFinding, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What rules found in a period.

    Attributes:
        findings: the worst first, and of one severity by time.
        unjudged: what could not be judged.
        muted: how many findings are not shown.
        is_learning: whether the data reaches back too short to tell what is usual.
        rules: how many rules were asked.
    """

    findings: tuple[RuleFinding, ...]
    unjudged: tuple[Unjudged, ...] = ()
    muted: int = 0
    is_learning: bool = False
    rules: int = 0

    def of(self, *severities: str) -> tuple[RuleFinding, ...]:
        """Return the findings of some severities."""
        return tuple(one for one in self.findings if one.severity in severities)

    def episodes(self) -> tuple[Episode, ...]:
        """Return findings of medium and high severity as episodes, the worst first, and of one severity by time."""
        open_ones: dict[Actor, list[RuleFinding]] = {}
        runs: list[list[RuleFinding]] = []
        for one in sorted(self.of("medium", "high"), key=lambda found: (found.first, found.last)):
            run = open_ones.get(one.actor)
            if run is None or one.first - max(before.last for before in run) > PAUSE:
                run = open_ones[one.actor] = []
                runs.append(run)
            run.append(one)
        return tuple(sorted(map(_episode, runs), key=lambda one: (-rank(one.severity), one.first)))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What deserves a look in a period, and how far that can be trusted.

    Attributes:
        question: what was asked.
        location: where the data is.
        made_at: when it was asked.
        ignored: files that were skipped.
        coverage: what of the period the data can speak for.
        found: what was found.
        episodes: findings of medium and high severity, as they followed each other.
        proof: what was proved of the files; empty where that was not asked.
    """

    question: Question
    location: str
    made_at: datetime
    ignored: tuple[Ignored, ...]
    coverage: Coverage
    found: Findings
    episodes: tuple[Episode, ...]
    proof: str = ""


def rank(severity: str) -> int:
    """Return the place of a severity, the least first."""
    return SEVERITIES.index(severity)


def _episode(run: Sequence[RuleFinding]) -> Episode:
    worst = max((one.severity for one in run), key=rank)
    return Episode(run[0].actor, worst, run[0].first, max(one.last for one in run), tuple(run))
