# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value
"""The events of a question, cut down to what is counted, and the lists that are counted from them.

They are read once, with those of the period before, into a table of DuckDB; every list is a query over it. The history
before is only asked who and what was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfaudit_export.analysis.answers.facts import (
    ActorFacts,
    Change,
    CredentialUse,
    Newcomer,
    Outcome,
    Ranked,
    SensitiveChange,
    SignIns,
)
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.vocabulary import (
    ACTION,
    ACTOR_KIND,
    ACTOR_NAME,
    BY_DESCRIPTION,
    CREDENTIAL_KIND,
    CREDENTIAL_NAME,
    RESULT,
    SENSITIVE_SORT,
    Actor,
    UsedCredential,
)
from cfaudit_export.analysis.files.database import EVENTS, EventDatabase

CHANGES = 500
"""How many sensitive changes a report lists at most; all are counted."""

OUTCOME = """count(*) FILTER (result = 'success') AS successes, count(*) FILTER (result = 'failure') AS failures,
    count(*) FILTER (result NOT IN ('success', 'failure', 'unknown')) AS others,
    count(*) FILTER (result = 'unknown') AS unknown_results"""
"""Columns from which `outcome` makes an outcome."""

WHO = f"{ACTOR_KIND} AS actor_kind, {ACTOR_NAME} AS actor_name"
"""Columns from which `actor` makes an actor."""

HOW = f"{CREDENTIAL_KIND} AS credential_kind, {CREDENTIAL_NAME} AS credential_name"
"""Columns from which `credential` makes a credential."""


def observe(data: EventDatabase, question: Question, *, comparable: bool) -> None:
    """Read what is counted into the table `observed`; `now` is true in the period, false in the one before."""
    condition, values = question.condition()
    start = question.before.since if comparable else question.period.since
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE observed AS SELECT
            event_time, event_time >= $since AS now, {WHO}, {HOW}, {ACTION} AS action, {RESULT} AS result,
            nullif(resource_product, '') AS product, nullif(resource_type, '') AS type,
            fidelity, nullif(actor_ip_address, '') AS address, {SENSITIVE_SORT} AS sort
        FROM {EVENTS} WHERE event_time >= $start AND event_time < $before AND {condition}""",
        {**values, "start": start, "since": question.period.since, "before": question.period.before},
    )


def recall(data: EventDatabase, question: Question) -> None:
    """Read who and what was there before the period into the table `past`."""
    condition, values = question.condition()
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE past AS
        SELECT DISTINCT {WHO}, {HOW}, nullif(resource_product, '') AS product
        FROM {EVENTS} WHERE event_time < $since AND {condition}""",
        {**values, "since": question.period.since},
    )


def ranked(data: EventDatabase, column: str, *, comparable: bool) -> tuple[Ranked, ...]:
    """Count the values of a column, the most frequent first; what only the period before has comes last."""
    rows = data.ask(
        f"""SELECT {column} AS name, count(*) FILTER (now) AS events, count(*) FILTER (NOT now) AS before
        FROM observed GROUP BY {column} {"" if comparable else "HAVING events > 0"}
        ORDER BY events DESC, before DESC, name""",
    )
    return tuple(Ranked(row["name"], Change(row["events"], row["before"] if comparable else None)) for row in rows)


def actors(data: EventDatabase, *, comparable: bool) -> tuple[ActorFacts, ...]:
    """Return what each actor did, the busiest first."""
    rows = data.ask(
        f"""WITH counted AS (SELECT actor_kind, actor_name, count(*) AS events, {OUTCOME},
            count(*) FILTER (action = 'create') AS creates, count(*) FILTER (action = 'update') AS updates,
            count(*) FILTER (action = 'delete') AS deletes, count(*) FILTER (action = 'unknown') AS unknown,
            count(*) FILTER (action NOT IN ('create', 'update', 'delete', 'unknown')) AS other
            FROM observed WHERE now GROUP BY ALL),
        earlier AS (SELECT actor_kind, actor_name, count(*) AS before FROM observed WHERE NOT now GROUP BY ALL)
        SELECT counted.*, coalesce(earlier.before, 0) AS before FROM counted LEFT JOIN earlier
            ON counted.actor_kind = earlier.actor_kind AND counted.actor_name IS NOT DISTINCT FROM earlier.actor_name
        ORDER BY events DESC, counted.actor_name, counted.actor_kind"""
    )
    return tuple(
        ActorFacts(
            actor(row),
            Change(row["events"], row["before"] if comparable else None),
            row["creates"],
            row["updates"],
            row["deletes"],
            row["other"],
            row["unknown"],
            outcome(row),
        )
        for row in rows
    )


def credentials(data: EventDatabase, *, has_history: bool) -> tuple[CredentialUse, ...]:
    """Return which credentials each actor used, the busiest actor first."""
    is_new = (
        """NOT EXISTS (FROM past WHERE past.actor_kind = used.actor_kind
            AND past.actor_name IS NOT DISTINCT FROM used.actor_name
            AND past.credential_kind = used.credential_kind
            AND past.credential_name IS NOT DISTINCT FROM used.credential_name)"""
        if has_history
        else "NULL"
    )
    rows = data.ask(
        f"""WITH used AS (SELECT actor_kind, actor_name, credential_kind, credential_name, count(*) AS events,
            min(event_time) AS first, max(event_time) AS last FROM observed WHERE now GROUP BY ALL)
        SELECT *, {is_new} AS is_new, sum(events) OVER (PARTITION BY actor_kind, actor_name) AS of_actor
        FROM used ORDER BY of_actor DESC, actor_name, actor_kind, events DESC, credential_kind, credential_name"""
    )
    return tuple(
        CredentialUse(actor(row), credential(row), row["events"], row["first"], row["last"], row["is_new"])
        for row in rows
    )


def new_actors(data: EventDatabase) -> tuple[Newcomer, ...]:
    """Return the actors that the history does not have, the earliest first."""
    rows = data.ask(
        """SELECT actor_kind, actor_name, count(*) AS events, min(event_time) AS first FROM observed
        WHERE now AND actor_kind <> 'unknown' AND (actor_kind, actor_name) NOT IN
            (SELECT (actor_kind, actor_name) FROM past) GROUP BY ALL ORDER BY first, actor_name"""
    )
    return tuple(Newcomer(actor(row).shown, row["events"], row["first"]) for row in rows)


def new_products(data: EventDatabase) -> tuple[Newcomer, ...]:
    """Return the products that the history does not have, the earliest first."""
    rows = data.ask(
        """SELECT product, count(*) AS events, min(event_time) AS first FROM observed
        WHERE now AND product NOT IN (SELECT product FROM past WHERE product IS NOT NULL)
        GROUP BY ALL ORDER BY first, product"""
    )
    return tuple(Newcomer(row["product"], row["events"], row["first"]) for row in rows)


def sign_ins(data: EventDatabase) -> tuple[SignIns, ...]:
    """Return the sign-ins of each actor, the most frequent first."""
    rows = data.ask(
        f"""SELECT actor_kind, actor_name, count(*) AS events, {OUTCOME}, min(event_time) AS first,
            max(event_time) AS last, list(DISTINCT address ORDER BY address) FILTER (address IS NOT NULL) AS addresses
        FROM observed WHERE now AND action = 'login' GROUP BY ALL ORDER BY events DESC, actor_name, actor_kind"""
    )
    return tuple(
        SignIns(actor(row), row["events"], outcome(row), row["first"], row["last"], tuple(row["addresses"] or ()))
        for row in rows
    )


def changes(data: EventDatabase, question: Question) -> tuple[SensitiveChange, ...]:
    """Return the latest sensitive changes."""
    condition, values = question.condition()
    rows = data.ask(
        f"""SELECT event_id, event_time AS time, {SENSITIVE_SORT} AS sort, {WHO}, {HOW}, {ACTION} AS action,
            {BY_DESCRIPTION} AS by_description, action_description AS description, resource_product AS product,
            resource_type AS type, coalesce(zone_name, resource_id) AS target, {RESULT} AS result
        FROM {EVENTS} WHERE event_time >= $since AND event_time < $before AND {condition} AND sort IS NOT NULL
        ORDER BY event_time DESC, event_id LIMIT {CHANGES}""",
        {**values, "since": question.period.since, "before": question.period.before},
    )
    return tuple(
        SensitiveChange(
            event_id=row["event_id"],
            time=row["time"],
            sort=row["sort"],
            actor=actor(row),
            credential=credential(row),
            action=row["action"],
            by_description=row["by_description"] and row["sort"] == "deletes",
            description=row["description"],
            product=row["product"],
            type=row["type"],
            target=row["target"],
            result=row["result"],
        )
        for row in rows
    )


def actor(row: Mapping[str, Any]) -> Actor:
    """Return the actor of a row."""
    return Actor(row["actor_kind"], row["actor_name"])


def credential(row: Mapping[str, Any]) -> UsedCredential:
    """Return the credential of a row."""
    return UsedCredential(row["credential_kind"], row["credential_name"])


def outcome(row: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a row that has the columns of `OUTCOME`."""
    return Outcome(*(row[name] for name in ("successes", "failures", "others", "unknown_results")))
