# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value
"""What speaks for a match: the table `judged`, which is `hits` with their severity and its reasons.

A change that an actor makes every week, by the usual credential and from the usual network, deserves no look. One that
is made from a new network, by a new credential, by a new actor, after failed sign-ins or for the first time does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from cfaudit_export.analysis.files.database import EventDatabase
from cfaudit_export.analysis.rules.model import rank
from cfaudit_export.analysis.rules.scan import RuleQuestion

_FRESH = "INTERVAL 24 HOURS"
_AFTER = "INTERVAL 6 HOURS"

REASONS = ("is_new_actor", "is_new_network", "is_new_credential", "is_after_failures", "is_first_time")
"""Columns of `judged` that speak for a match, each alone."""

_PHRASES = {
    "is_new_actor": "by an actor never seen before",
    "is_new_network": "from a network that this actor never used before",
    "is_new_credential": "by a credential that this actor never used before",
    "is_after_failures": "after many failed sign-ins",
    "is_first_time": "for the first time by this actor",
}


def remember(data: EventDatabase, known_addresses: Sequence[str]) -> None:
    """Make the tables of when an actor was seen first, at all and with an address, a network, a credential."""
    data.run(
        """CREATE OR REPLACE TEMP TABLE actors AS SELECT who, min(moment) AS first, bool_or(past) AS is_old FROM seen
        WHERE is_named GROUP BY who"""
    )
    data.run("CREATE OR REPLACE TEMP TABLE known (address UBIGINT)")
    _know(data, known_addresses)
    for name, value, given in (
        ("networks", "network", "has_address AND address NOT IN (FROM known)"),
        ("credentials", "how", "has_how AND NOT is_known_token"),
    ):
        data.run(
            f"""CREATE OR REPLACE TEMP TABLE {name} AS SELECT who, {value}, min(moment) AS first FROM seen
            WHERE is_named AND {given} GROUP BY ALL"""
        )


def _know(data: EventDatabase, known_addresses: Sequence[str]) -> None:
    networks = [ip_network(one, strict=False) for one in known_addresses]
    if not networks:
        return
    rows = data.ask(
        """SELECT DISTINCT actor_ip_address AS address FROM audit_events WHERE actor_ip_address <> ''
        AND event_time >= (SELECT min(moment) FROM seen)"""
    )
    known = [row["address"] for row in rows if _is_within(row["address"], networks)]
    data.run("INSERT INTO known SELECT hash(unnest($known::VARCHAR[]))", {"known": known})


def _is_within(text: str, networks: Sequence[object]) -> bool:
    try:
        found = ip_address(text)
    except ValueError:
        return False
    return any(found in one for one in networks)  # type: ignore[operator]  # networks of both versions


def judge(data: EventDatabase, asked: RuleQuestion, fixed: Sequence[str], *, is_learning: bool) -> None:
    """Make the table `judged`.

    Args:
        data: has the tables `seen`, `hits`, and those of `remember`.
        asked: what is judged.
        fixed: ids of rules whose severity was set, and holds whatever speaks for or against it.
        is_learning: whether it cannot be told what is new.
    """
    matches = [at for at, one in enumerate(asked.rules) if one.kind == "match" and not one.alone]
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE habits AS SELECT rule, who, min(moment) AS first
        FROM seen, (SELECT unnest({matches}::INT[]) AS rule) WHERE matched & (1::BIGINT << rule) <> 0 GROUP BY ALL"""
    )
    failed = asked.bit("failed-sign-ins").bit_length() - 1
    can_tell = str(not is_learning).upper()
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE reasons AS SELECT hits.rule, hits.event_id, hits.who,
            {can_tell} AND actors.first > hits.moment - {_FRESH} AS is_new_actor,
            {can_tell} AND networks.first > hits.moment - {_FRESH} AS is_new_network,
            {can_tell} AND credentials.first > hits.moment - {_FRESH} AS is_new_credential,
            {can_tell} AND habits.first > hits.moment - {_FRESH} AS is_first_time,
            EXISTS (FROM hits AS failed WHERE failed.rule = {failed} AND failed.who = hits.who
                AND failed.moment <= hits.moment AND failed.moment > hits.moment - {_AFTER}) AS is_after_failures
        FROM hits JOIN (SELECT event_id, any_value(network) AS network, any_value(how) AS how FROM seen
            WHERE event_id IN (SELECT event_id FROM hits) GROUP BY event_id) AS facts USING (event_id)
        LEFT JOIN actors ON actors.who = hits.who
        LEFT JOIN networks ON networks.who = hits.who AND networks.network = facts.network
        LEFT JOIN credentials ON credentials.who = hits.who AND credentials.how = facts.how
        LEFT JOIN habits ON habits.rule = hits.rule AND habits.who = hits.who"""
    )
    speaks = " OR ".join(f"coalesce({one}, FALSE)" for one in REASONS)
    ranks = ", ".join(f"({at}, {rank(one.severity)}, {one.id in fixed})" for at, one in enumerate(asked.rules))
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE judged AS SELECT hits.*,
            {", ".join(f"coalesce({one}, FALSE) AS {one}" for one in REASONS)},
            CASE WHEN is_fixed OR (alone AND NOT is_usual) THEN worst
                WHEN NOT alone AND ({speaks}) THEN worst ELSE 0 END AS severity
        FROM hits JOIN reasons USING (rule, event_id, who)
        JOIN (VALUES {ranks}) AS ranks (rule, worst, is_fixed) USING (rule)"""
    )
    if failed >= 0 and asked.rules[failed].id not in fixed:
        # One that works after many that failed is worse than those that failed.
        data.run(
            f"""UPDATE judged SET severity = {rank("high")} WHERE rule = {failed} AND EXISTS (FROM hits AS worked
            WHERE worked.rule = {failed} AND worked.why = 'signed in' AND worked.who = judged.who
                AND worked.moment >= judged.moment AND worked.moment <= judged.moment + INTERVAL 2 HOURS)"""
        )


def told(row: Mapping[str, Any]) -> list[str]:
    """Return what speaks for a finding, as phrases; `row` has a count of each of `REASONS`."""
    found = [name for name in REASONS if row[name]]
    if "is_new_actor" in found:  # all else is new with the actor
        found = [name for name in found if name in ("is_new_actor", "is_after_failures")]
    return [_PHRASES[name] for name in found]
