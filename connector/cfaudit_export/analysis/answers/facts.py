"""The values of a report. What is unknown is None, never 0."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.vocabulary import Actor, UsedCredential
from cfaudit_export.analysis.files.footers import Ignored


@dataclass(frozen=True, slots=True)
class Change:
    """A count, and the same count in the period before; None where the two cannot be compared."""

    count: int
    before: int | None = None

    @property
    def percent(self) -> float | None:
        """Return the change in percent; None where there is nothing to compare with."""
        return None if not self.before else 100 * (self.count - self.before) / self.before


@dataclass(frozen=True, slots=True)
class Outcome:
    """How actions ended.

    Attributes:
        successes: those that the record calls `success`.
        failures: those that it calls `failure`.
        others: those that it calls something else.
        unknown: those of which it does not say.
    """

    successes: int
    failures: int
    others: int
    unknown: int

    @property
    def ratio(self) -> float | None:
        """Return the share of failures among those whose result is known; None where none is."""
        known = self.successes + self.failures + self.others
        return self.failures / known if known else None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A name and how often it occurs; None for the name that records do not give."""

    name: str | None
    events: Change


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What one actor did."""

    actor: Actor
    events: Change
    creates: int
    updates: int
    deletes: int
    other: int
    unknown: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CredentialUse:
    """An actor and a credential.

    Attributes:
        actor: who.
        credential: by what.
        events: how often.
        first: first use in the period.
        last: last use in the period.
        is_new: whether the data before the period has no such use; None where there is no such data.
    """

    actor: Actor
    credential: UsedCredential
    events: int
    first: datetime
    last: datetime
    is_new: bool | None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A name that the data before the period does not have."""

    name: str
    events: int
    first: datetime


@dataclass(frozen=True, slots=True)
class SignIns:
    """The sign-ins of an actor."""

    actor: Actor
    events: int
    outcome: Outcome
    first: datetime
    last: datetime
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SensitiveChange:
    """A change that a person should look at.

    Attributes:
        event_id: which event.
        time: when.
        sort: a key of `words.SENSITIVE`.
        actor: who.
        credential: by what.
        action: `create`, `update`, `delete`, ...; `unknown`.
        by_description: whether it counts as a delete only because its description says so.
        description: what was done, as the record describes it.
        product: of the resource.
        type: of the resource.
        target: name of the zone, or id of the resource.
        result: `success`, `failure`, ...; `unknown`.
    """

    event_id: str
    time: datetime
    sort: str
    actor: Actor
    credential: UsedCredential
    action: str
    by_description: bool
    description: str | None
    product: str | None
    type: str | None
    target: str | None
    result: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over the whole period. `actions` and `fidelity` are by name; `unknown` is a name."""

    events: Change
    actors: Change
    failures: Change
    sign_ins: Change
    outcome: Outcome
    actions: tuple[Ranked, ...]
    credentials: tuple[Ranked, ...]
    fidelity: tuple[Ranked, ...]
    repeated: int


@dataclass(frozen=True, slots=True)
class Day:
    """Events of a day, and how many of them are known to have failed."""

    day: date
    events: int
    failures: int


@dataclass(frozen=True, slots=True)
class Cell:
    """Events of one hour of a day. `day` is a date, or the number of a weekday from Monday on."""

    day: date | int
    hour: int
    events: int


@dataclass(frozen=True, slots=True)
class Report:
    """All of a report.

    Attributes:
        question: what was asked.
        location: where the data is.
        made_at: when the report was made.
        ignored: files that were skipped.
        coverage: what of the period the data can speak for.
        data_since: time of the earliest event in the data.
        incomparable: why there is no comparison with the period before; empty where there is one.
        totals: counts.
        days: every day of the period, in the time zone of the question.
        heat: events by day, or by weekday in a long period, and hour.
        actors: all of them, the busiest first; so `products` and `types`.
        credentials: by actor.
        new_actors: actors that the data before the period does not have; None where there is no such data.
        new_products: the same for products.
        sign_ins: by actor.
        sensitive: sorts of changes and how many there are.
        changes: the latest of them.
        proof: what was proved of the files; empty where that was not asked.
    """

    question: Question
    location: str
    made_at: datetime
    ignored: tuple[Ignored, ...]
    coverage: Coverage
    data_since: datetime | None
    incomparable: str
    totals: Totals
    days: tuple[Day, ...]
    heat: tuple[Cell, ...]
    actors: tuple[ActorFacts, ...]
    products: tuple[Ranked, ...]
    types: tuple[Ranked, ...]
    credentials: tuple[CredentialUse, ...]
    new_actors: tuple[Newcomer, ...] | None
    new_products: tuple[Newcomer, ...] | None
    sign_ins: tuple[SignIns, ...]
    sensitive: tuple[Ranked, ...]
    changes: tuple[SensitiveChange, ...]
    proof: str = ""
