# ruff: noqa: S608  # an own rule is SQL of the user, asked where it can read events and nothing else
"""Rules of the user: files of SQL in a folder, each with a header of comments.

    -- id: worker-secret-read
    -- title: secret of a Worker listed
    -- severity: medium
    -- advice: ask who needed it
    select event_id, event_time, actor_email as key, action_description as why
    from audit_events where resource_type = 'scripts.secrets'

A rule answers with the columns `event_id`, `event_time`, `key` and `why`. It sees the events of the period and of
the 90 days before; of what it answers, the events of the period count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cfaudit_export.analysis.files.columns import event_columns
from cfaudit_export.analysis.files.database import EVENTS, EventDatabase
from cfaudit_export.analysis.files.engine import import_duckdb
from cfaudit_export.analysis.rules.model import Rule
from cfaudit_export.analysis.rules.scan import RuleQuestion
from cfaudit_export.core.escape import shown
from cfaudit_export.core.suggest import nearest
from cfaudit_export.errors import SettingsError
from cfaudit_export.settings.rules import SEVERITIES

COLUMNS = ("event_id", "event_time", "key", "why")
_MOST_ROWS = 10_000
_HEADER = re.compile(r"^--\s*([a-z_]+)\s*:\s*(.*?)\s*$")
_KEYS = ("id", "title", "severity", "advice")
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LINE = re.compile(r"\n\s*LINE (\d+):.*", re.DOTALL)
_TYPES = {"event_id": "VARCHAR", "event_time": "TIMESTAMPTZ", "key": "VARCHAR", "why": "VARCHAR"}


def read_own(folder: Path) -> Iterator[Rule]:
    """Yield the rules of a folder, by name of their files.

    Raises:
        SettingsError: the folder or a file cannot be read, or a header or the SQL is wrong; it says where.
    """
    try:
        files = sorted(one for one in folder.iterdir() if one.suffix == ".sql")
        texts = [(one, one.read_text("utf-8-sig")) for one in files]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"rules.folder '{folder}' cannot be read: {reason}") from None
    if not texts:
        raise SettingsError(f"rules.folder '{folder}' has no rules: name files in it *.sql")
    for file, text in texts:
        rule = _rule(file, text)
        _check(file, rule)
        yield rule


def find_own(data: EventDatabase, asked: RuleQuestion) -> None:
    """Add to the table `hits` what own rules answer.

    Raises:
        SettingsError: one cannot be asked.
        CfauditError: the data cannot be read.
    """
    for at, rule in enumerate(asked.rules):
        if rule.kind == "own":
            data.run(
                f"""INSERT INTO hits SELECT DISTINCT {at}, seen.event_id, seen.moment, seen.who, seen.now,
                    TRUE, FALSE, 1, 0, coalesce(answer.key, 'unknown'), answer.why
                FROM ({_selected(rule.sql)} LIMIT {_MOST_ROWS}) AS answer JOIN seen ON seen.event_id = answer.event_id
                WHERE seen.asked"""
            )


def _rule(file: Path, text: str) -> Rule:
    header: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if not line.startswith("--"):
            break
        if not (found := _HEADER.match(line)):
            continue  # a comment
        key, value = found.groups()
        if key not in _KEYS:
            raise _wrong(file, number, f"unknown key '{key}'{nearest(key, _KEYS)}; a header has {', '.join(_KEYS)}")
        if key == "severity" and value not in SEVERITIES:
            raise _wrong(file, number, f"severity is one of {', '.join(SEVERITIES)}, not '{shown(value)}'")
        if key == "id" and not _ID.fullmatch(value):
            raise _wrong(file, number, f"an id is words of a-z and 0-9 joined by '-', not '{shown(value)}'")
        header[key] = value
    id_ = header.get("id") or file.stem
    if not _ID.fullmatch(id_):
        raise _wrong(file, 1, "name the rule in the header, as in '-- id: worker-secret-read'")
    return Rule(
        id_,
        header.get("title") or id_.replace("-", " "),
        header.get("severity", "medium"),
        "own",
        header.get("advice") or "look at the events",
        alone=True,
        sql=text.strip().rstrip(";"),
    )


def _selected(sql: str) -> str:
    columns = ", ".join(f"{name}::{kind} AS {name}" for name, kind in _TYPES.items())
    return f"SELECT {columns} FROM (\n{sql}\n)"


def _check(file: Path, rule: Rule) -> None:
    """Let DuckDB plan the rule over no events.

    Raises:
        SettingsError: it cannot.
    """
    duckdb = import_duckdb()
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("no_events", event_columns().empty_table())
        connection.execute(f"CREATE VIEW {EVENTS} AS FROM no_events")
        connection.execute("SET lock_configuration = true")
        above = 0  # lines of ours above the rule
        try:
            statements = connection.extract_statements(rule.sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise _wrong(file, 1, "a rule is one SELECT")
            above = 1
            found = [row[0] for row in connection.execute(f"DESCRIBE\n{rule.sql}").fetchall()]
            if missing := [one for one in COLUMNS if one not in found]:
                raise _wrong(file, 1, f"a rule answers with {', '.join(COLUMNS)}; this one lacks {missing[0]}")
            connection.execute(f"EXPLAIN {_selected(rule.sql)}")
        except duckdb.Error as error:
            said = str(error)
            line = _LINE.search(said)
            number = max(int(line[1]) - above, 1) if line else 1
            raise _wrong(file, number, shown(_LINE.sub("", said).splitlines()[0])) from None


def _wrong(file: Path, line: int, why: str) -> SettingsError:
    return SettingsError(f"rule '{file}', line {line}: {why}")
