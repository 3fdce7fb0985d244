# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value
"""Events of a period and of the time before it -> the table `seen`: what rules look at, read once.

Names are hashed, so that the table is small; who and what it was is looked up for the few events that are found. Which
rules an event meets is worked out once for each kind of event: there are few kinds, and patterns take time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.vocabulary import (
    ACTOR_KIND,
    ACTOR_NAME,
    CREDENTIAL_KIND,
    CREDENTIAL_NAME,
    RESULT,
    SIGN_IN,
    THING,
)
from cfaudit_export.analysis.files.database import EVENTS, EventDatabase
from cfaudit_export.analysis.files.footers import streams
from cfaudit_export.analysis.rules.model import HISTORY, Rule
from cfaudit_export.core.model import EPOCH

CHANGE = "did NOT IN ('login', 'view', 'unknown')"
_SAID = "lower(trim(coalesce(action_description, '')))"
_VERBS = {
    "create": "create|add|invite|issue|generate|order|upload|put",
    "delete": "delete|remove|revoke|destroy",
    "update": "update|edit|change|patch|roll|rotate|enable|disable|turn|switch|set|move|transfer|unlock|lock|replace",
}
_BY_VERB = " ".join(
    rf"WHEN regexp_matches({_SAID}, '^({verbs})(d|s|ed)?\b') THEN '{did}'" for did, verbs in _VERBS.items()
)
_DID = f"""CASE
    WHEN {SIGN_IN} THEN 'login'
    WHEN nullif(trim(action_type), '') IS NOT NULL THEN lower(trim(action_type))
    {_BY_VERB}
    ELSE 'unknown' END"""

EVENT = {
    "thing": THING,
    "said": _SAID,
    "did": _DID,
    "result": RESULT,
    "type": "lower(coalesce(actor_type, ''))",
    "context": "lower(coalesce(actor_context, ''))",
}
"""Columns that conditions of rules look at, and how they are made."""

BODIES = ("request", "response", "value")
"""Columns that conditions on bodies look at: what was sent, what was answered, the value after it; in lower case."""

BODY = "bodies"
_RAW = (
    *("resource_product", "resource_type", "action_type", "action_description", "action_result"),
    *("actor_type", "actor_context"),
)
_NETWORK = r"regexp_extract(actor_ip_address, '^(\d+\.\d+\.\d+)\.|^([0-9A-Fa-f]+:[0-9A-Fa-f]*:[0-9A-Fa-f]*)')"


@dataclass(frozen=True, slots=True)
class RuleQuestion:
    """What is judged.

    Attributes:
        question: the period, and which events of it.
        arrived_since: only events that were read since then; None for all.
        rules: those that are asked, in the order of their bits.
        known_tokens: names of API tokens that are never new.
        columns: what an event may lack, in the order of its bits.
    """

    question: Question
    arrived_since: datetime | None
    rules: Sequence[Rule]
    known_tokens: Sequence[str]
    columns: tuple[str, ...]

    def bit(self, rule: str) -> int:
        """Return the bit of a rule; 0 where it is not asked."""
        return next((1 << at for at, one in enumerate(self.rules) if one.id == rule), 0)


def history_start(since: datetime) -> datetime:
    """Return from when on events are looked at for a period that begins then."""
    return max(since - HISTORY, EPOCH + timedelta(days=1))


def scan(data: EventDatabase, asked: RuleQuestion) -> None:
    """Make the table `seen`.

    Raises:
        CfauditError: the data cannot be read.
    """
    question = asked.question
    condition, values = question.condition()
    accounts, of_accounts = Question(question.period, question.accounts).condition()
    arrived = " AND ingested_at >= $arrived" if asked.arrived_since else ""
    times: dict[str, Any] = {
        "since": question.period.since,
        "start": history_start(question.period.since),
        "before": question.period.before,
        "zone": question.zone,
        "tokens": list(asked.known_tokens),
    }
    times |= {"arrived": asked.arrived_since} if asked.arrived_since else {}
    # Two streams of one account say everything twice, and a burst must not be counted double.
    is_repeated = len(streams(data.listing.files)) > len(data.accounts)
    once = "QUALIFY row_number() OVER (PARTITION BY account_id, event_key ORDER BY fidelity) = 1" if is_repeated else ""
    lacks = " + ".join(f"({_lacks(one)})::INT * {1 << at}" for at, one in enumerate(asked.columns)) or "0"
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE read AS SELECT
            event_time AS moment, event_time < $since AS past,
            (event_time >= $since AND {condition}) AS asked,
            (event_time >= $since{arrived} AND {condition}) AS now,
            CASE WHEN event_time >= $since THEN event_id END AS event_id,
            hash({ACTOR_KIND}, {ACTOR_NAME}) AS who, {ACTOR_KIND} NOT IN ('type', 'unknown') AS is_named,
            hash({CREDENTIAL_KIND}, {CREDENTIAL_NAME}) AS how, {CREDENTIAL_KIND} <> 'unknown' AS has_how,
            {CREDENTIAL_KIND} = 'api_token' AS by_token, {CREDENTIAL_KIND} = 'dash' AS by_hand,
            coalesce(list_contains($tokens, {CREDENTIAL_NAME}), FALSE) AS is_known_token,
            hash(nullif(actor_ip_address, '')) AS address, hash(nullif({_NETWORK}, '')) AS network,
            nullif(actor_ip_address, '') IS NOT NULL AS has_address,
            hash(resource_product) AS product, nullif(resource_product, '') IS NOT NULL AS has_product,
            hour(timezone($zone, event_time)) AS hour,
            hash(nullif(actor_token_id, '')) AS token, nullif(actor_token_id, '') IS NOT NULL AS has_token,
            hash(nullif(resource_id, '')) AS resource, nullif(resource_id, '') IS NOT NULL AS has_resource,
            {lacks} AS lacks,
            {", ".join(f"coalesce({column}, '') AS {column}" for column in _RAW)}
        FROM {EVENTS} WHERE event_time >= $start AND event_time < $before AND {accounts} {once}""",
        {**of_accounts, **values, **times},
    )
    _judge_kinds(data, asked.rules)


def _judge_kinds(data: EventDatabase, rules: Sequence[Rule]) -> None:
    """Make `seen` of `read`: with the rules that each kind of event meets, in the place of its texts."""
    matched = _mask([one.when if one.kind in ("match", "burst") else "FALSE" for one in rules])
    sure = _mask([(one.sure or "TRUE") if one.body else "TRUE" for one in rules])
    raw = ", ".join(_RAW)
    made = ", ".join(f"{sql} AS {name}" for name, sql in EVENT.items())
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE kinds AS
        WITH raw AS (SELECT DISTINCT {raw} FROM read), event AS (SELECT {raw}, {made} FROM raw)
        SELECT {raw}, {matched} AS matched, {sure} AS sure, {CHANGE} AS is_change, did, result,
            hash(thing) AS thing FROM event"""
    )
    same = " AND ".join(f"read.{column} = kinds.{column}" for column in _RAW)
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE seen AS SELECT read.* EXCLUDE ({raw}), matched, sure, is_change, thing,
            did = 'login' AND result = 'success' AS is_signed_in FROM read JOIN kinds ON {same}"""
    )
    data.run("DROP TABLE read")


def _mask(conditions: Sequence[str]) -> str:
    bits = (f"CASE WHEN {one} THEN {1 << at} ELSE 0 END" for at, one in enumerate(conditions) if one != "FALSE")
    return f"({' + '.join(bits) or '0'})::BIGINT"


def _lacks(column: str) -> str:
    """Return SQL that is true where the source did not give a column: null in a whole record means that it has none."""
    return "fidelity <> 'full'" if column == BODY else f"fidelity <> 'full' AND {column} IS NULL"
