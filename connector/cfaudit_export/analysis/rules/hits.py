# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value
"""What each rule matches: the table `hits`, a row for each rule and event."""

from __future__ import annotations

from collections.abc import Sequence

from cfaudit_export.analysis.files.database import EVENTS, EventDatabase
from cfaudit_export.analysis.rules.model import Rule
from cfaudit_export.analysis.rules.scan import BODIES, BODY, RuleQuestion

_DAY = "INTERVAL 24 HOURS"
_TOKENS_OF_THING = 0.95
_CHANGES_OF_THING = 20
_HABIT = 50
_RARE = 0.01
_BODY_SQL = {name: f"lower(coalesce(resource_{name}, ''))" for name in BODIES}


def find_hits(data: EventDatabase, asked: RuleQuestion, *, is_learning: bool) -> list[str]:
    """Make the table `hits`, and return the ids of rules that could not judge some events without their bodies.

    `alone` is whether a hit has the severity of its rule as it is; `is_usual` that it is nothing new for its actor.

    Raises:
        CfauditError: the data cannot be read.
    """
    data.run(
        """CREATE OR REPLACE TEMP TABLE hits (rule INT, event_id VARCHAR, moment TIMESTAMPTZ, who UBIGINT, now BOOLEAN,
        alone BOOLEAN, is_usual BOOLEAN, n BIGINT, most BIGINT, key VARCHAR, why VARCHAR)"""
    )
    of_bodies = _match(data, asked.rules)
    for at, rule in enumerate(asked.rules):
        if rule.kind == "burst":
            _burst(data, at, rule)
    _follow(data, asked)
    _elsewhere(data, asked)
    if not is_learning:
        _firsts(data, asked)
        _unusual(data, asked)
        _by_hand(data, asked)
    return of_bodies


def _match(data: EventDatabase, rules: Sequence[Rule]) -> list[str]:
    data.run("CREATE OR REPLACE TEMP TABLE unsure (rule INT, event_id VARCHAR, moment TIMESTAMPTZ, is_blind BOOLEAN)")
    for at, rule in enumerate(rules):
        if rule.kind != "match":
            continue
        bit = 1 << at
        alone = str(rule.alone).upper()
        data.run(
            f"""INSERT INTO hits SELECT {at}, event_id, moment, who, now, {alone}, FALSE, 1, 0, NULL, NULL FROM seen
            WHERE asked AND matched & {bit} <> 0"""
        )
        if rule.body:
            data.run(
                f"""INSERT INTO unsure SELECT {at}, event_id, moment, lacks & $blind <> 0 FROM seen
                WHERE asked AND matched & {bit} <> 0 AND sure & {bit} = 0""",
                {"blind": 1 << _bit_of_bodies(rules)},
            )
    return _judge_bodies(data, rules)


def _bit_of_bodies(rules: Sequence[Rule]) -> int:
    return lacking(rules).index(BODY)


def lacking(rules: Sequence[Rule]) -> tuple[str, ...]:
    """Return the columns that rules need, and that an event may lack."""
    needed = {column: None for rule in rules for column in (*rule.needs, *([BODY] if rule.body else []))}
    return tuple(needed)


def _judge_bodies(data: EventDatabase, rules: Sequence[Rule]) -> list[str]:
    """Remove the hits whose bodies do not say what their rule is about; bodies are read of those alone."""
    [span] = data.ask("SELECT min(moment) AS first, max(moment) AS last FROM unsure WHERE NOT is_blind")
    data.run("CREATE OR REPLACE TEMP TABLE said (rule INT, event_id VARCHAR)")
    if span["first"] is not None:
        bodies = ", ".join(f"{sql} AS {name}" for name, sql in _BODY_SQL.items())
        cases = " ".join(f"WHEN {at} THEN ({one.body})" for at, one in enumerate(rules) if one.body)
        data.run(
            f"""INSERT INTO said SELECT rule, event_id FROM (SELECT unsure.rule, event_id, {bodies},
                lower(coalesce(action_type, '')) AS did
                FROM {EVENTS} JOIN unsure USING (event_id)
                WHERE event_time >= $first AND event_time <= $last) WHERE CASE rule {cases} END""",
            span,
        )
    data.run(
        """DELETE FROM hits WHERE (rule, event_id) IN (SELECT (rule, event_id) FROM unsure)
        AND (rule, event_id) NOT IN (SELECT (rule, event_id) FROM said)"""
    )
    rows = data.ask("SELECT DISTINCT rule FROM unsure WHERE is_blind ORDER BY rule")
    return [rules[row["rule"]].id for row in rows]


def _burst(data: EventDatabase, at: int, rule: Rule) -> None:
    """Find events of an actor that are so many in so many minutes; as many as there were before are nothing new."""
    span = f"INTERVAL {rule.minutes} MINUTES"
    each = "who, address" if rule.per_address else "who"
    data.run(
        f"""INSERT INTO hits WITH counted AS (SELECT event_id, moment, who, address, now, past,
                count(*) OVER (PARTITION BY {each} ORDER BY moment RANGE BETWEEN {span} PRECEDING AND CURRENT ROW) AS n
            FROM seen WHERE matched & {1 << at} <> 0),
        peaks AS (SELECT *, max(n) OVER (PARTITION BY {each}
            ORDER BY moment RANGE BETWEEN CURRENT ROW AND {span} FOLLOWING) AS peak FROM counted),
        before AS (SELECT who, max(n) AS most FROM counted WHERE past GROUP BY who)
        SELECT {at}, event_id, moment, who, now, TRUE, peak <= coalesce(most, 0), peak, coalesce(most, 0), NULL, NULL
        FROM peaks LEFT JOIN before USING (who) WHERE NOT past AND peak >= {rule.count}"""
    )


def _follow(data: EventDatabase, asked: RuleQuestion) -> None:
    """Add to failed sign-ins the one that worked within the hour after them."""
    if bit := asked.bit("failed-sign-ins"):
        rule = bit.bit_length() - 1
        data.run(
            f"""INSERT INTO hits SELECT DISTINCT {rule}, seen.event_id, seen.moment, seen.who, seen.now, TRUE, FALSE,
                max(hits.n), max(hits.most), NULL, 'signed in'
            FROM seen JOIN hits ON hits.rule = {rule} AND hits.who = seen.who
                AND seen.moment >= hits.moment AND seen.moment <= hits.moment + INTERVAL 1 HOUR
            WHERE NOT seen.past AND is_signed_in GROUP BY ALL"""
        )


def _elsewhere(data: EventDatabase, asked: RuleQuestion) -> None:
    """Find uses of a token within a day of its making, from another address than its maker's."""
    bit, made = asked.bit("token-used-elsewhere"), asked.bit("token-made")
    if bit and made:
        data.run(
            f"""INSERT INTO hits WITH made AS (SELECT moment, event_id, now, past, who, address, resource AS token
                FROM seen WHERE matched & {made} <> 0 AND has_resource AND has_address
                    AND moment >= (SELECT min(moment) FROM seen WHERE NOT past) - {_DAY}),
            both_ AS (SELECT *, address AS of_maker FROM made
                UNION ALL SELECT moment, event_id, now, past, who, address, token, NULL FROM seen
                WHERE NOT past AND has_token AND has_address AND token IN (SELECT token FROM made)),
            traced AS (SELECT *, last_value(of_maker IGNORE NULLS) OVER (PARTITION BY token ORDER BY moment
                RANGE BETWEEN {_DAY} PRECEDING AND CURRENT ROW) AS maker FROM both_)
            SELECT {bit.bit_length() - 1}, event_id, moment, who, now, TRUE, FALSE, 1, 0, NULL, NULL FROM traced
            WHERE of_maker IS NULL AND maker IS NOT NULL AND maker <> address"""
        )


def _firsts(data: EventDatabase, asked: RuleQuestion) -> None:
    """Find the first event of an actor, and the first with an address, a credential, a product."""
    kinds = {
        "first-address": ("address", "has_address AND NOT address IN (FROM known)"),
        "first-credential": ("how", "has_how AND NOT is_known_token"),
        "first-product": ("product", "has_product AND is_change"),
        "new-actor": ("who", "TRUE"),
    }
    for name, (value, given) in kinds.items():
        if bit := asked.bit(name):
            older = "" if name == "new-actor" else "AND who NOT IN (SELECT who FROM actors WHERE NOT is_old)"
            data.run(
                f"""INSERT INTO hits SELECT {bit.bit_length() - 1}, arg_min(event_id, moment), min(moment), who,
                    arg_min(now, moment), TRUE, FALSE, 1, 0, NULL, NULL
                FROM seen WHERE is_named AND {given} {older} GROUP BY who, {value} HAVING bool_and(NOT past)"""
            )


def _unusual(data: EventDatabase, asked: RuleQuestion) -> None:
    """Find changes by hand in hours in which, and next to which, their actor hardly ever was at work."""
    if bit := asked.bit("unusual-hours"):
        data.run(
            f"""INSERT INTO hits WITH worked AS (SELECT who, hour, count(*) AS n FROM seen
                WHERE past AND is_named AND moment >= (SELECT min(moment) FROM seen WHERE NOT past) - INTERVAL 60 DAYS
                GROUP BY ALL),
            near AS (SELECT who, about.hour, sum(n) FILTER (least((worked.hour - about.hour + 24) % 24,
                    (about.hour - worked.hour + 24) % 24) <= 1) AS n, sum(n) AS total
                FROM worked, (SELECT unnest(range(24)) AS hour) AS about GROUP BY ALL)
            SELECT {bit.bit_length() - 1}, event_id, moment, who, now, TRUE, FALSE, 1, 0, NULL, NULL
            FROM seen JOIN near USING (who, hour)
            WHERE asked AND is_change AND by_hand AND total >= {_HABIT} AND coalesce(near.n, 0) < {_RARE} * total"""
        )


def _by_hand(data: EventDatabase, asked: RuleQuestion) -> None:
    """Find changes by hand of things that tokens change otherwise."""
    if bit := asked.bit("out-of-band"):
        data.run(
            f"""INSERT INTO hits WITH kept AS (SELECT thing FROM seen WHERE past AND is_change GROUP BY thing
                HAVING count(*) >= {_CHANGES_OF_THING}
                    AND count(*) FILTER (by_token) >= {_TOKENS_OF_THING} * count(*))
            SELECT {bit.bit_length() - 1}, event_id, moment, who, now, TRUE, FALSE, 1, 0, NULL, NULL
            FROM seen WHERE asked AND is_change AND by_hand AND thing IN (FROM kept)"""
        )
