"""Own rules: asked like the shipped ones, checked at the start, and refused with file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.rules.load import load_rules
from cfaudit_export.analysis.rules.model import Findings
from cfaudit_export.analysis.rules.shipped import SHIPPED
from cfaudit_export.errors import SettingsError
from cfaudit_export.settings import RuleSettings
from cfaudit_export.settings.rules import Mute
from planted.world import Story

Judge = Callable[..., Findings]
SQL = """-- id: kv-emptied
-- title: key-value pair deleted
-- severity: high
-- advice: restore it from the backup

-- Anything else is a comment.
select event_id, event_time, resource_id as key, 'deleted ' || resource_id as why
from audit_events
where resource_product = 'kv' and action_type = 'delete';
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "rules"
    found.mkdir()
    return found


def test_an_own_rule_finds_by_its_sql_with_its_severity(judge: Judge, story: Story, folder: Path) -> None:
    (folder / "kv.sql").write_text(SQL)
    (folder / "notes.txt").write_text("no rule")
    for number in range(2):
        story.add("kv/namespaces.values", "delete", "Delete key", resource_id=f"ns-{number}")
    found = judge(story.rows, RuleSettings(folder=folder))
    mine = [one for one in found.findings if one.rule == "kv-emptied"]
    assert [(one.key, one.severity, one.events) for one in mine] == [("ns-0", "high", 1), ("ns-1", "high", 1)]
    assert mine[0].why == "deleted ns-0"
    assert mine[0].advice == "restore it from the backup"
    assert mine[0].actor.name == "jonas.ekberg@example.com"
    assert found.rules == len(SHIPPED) + 1
    mute = RuleSettings(folder=folder, mute=(Mute("kv-emptied", "ns-0"),), severity={"kv-emptied": "low"})
    found = judge(story.rows, mute)
    assert [(one.key, one.severity) for one in found.findings if one.rule == "kv-emptied"] == [("ns-1", "low")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("-- id: x\n-- severty: high\nselect 1", 2, "unknown key 'severty'; did you mean 'severity'?"),
        ("-- id: x\n-- severity: critical\nselect 1", 2, "severity is one of low, medium, high, not 'critical'"),
        ("-- id: Not An Id\nselect 1", 1, "an id is words of a-z and 0-9"),
        ("-- id: x\nselect event_id,\n  event_tme, '' as key, '' as why\nfrom audit_events", 3, '"event_tme"'),
        (
            "-- id: x\nselect event_id from audit_events",
            1,
            "a rule answers with event_id, event_time, key, why; this one lacks event_time",
        ),
        ("-- id: x\nselect event_id, event_time, '' as key, '' as why fro audit_events", 2, "syntax error"),
        ("-- id: x\ndrop table audit_events", 1, "a rule is one SELECT"),
        ("-- id: x\nselect 1; select 2", 1, "a rule is one SELECT"),
        ("-- id: x\nfrom read_csv('/etc/passwd')", 2, "disabled"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_with_file_and_line(folder: Path, text: str, line: int, message: str) -> None:
    file = folder / "wrong.sql"
    file.write_text(text)
    with pytest.raises(SettingsError) as told:
        load_rules(RuleSettings(folder=folder))
    assert f"rule '{file}', line {line}: " in str(told.value)
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"disable": ("dnsec-off",)}, "'rules.disable' names no rule: 'dnsec-off'; did you mean 'dnssec-off'?"),
        ({"severity": {"member-add": "low"}}, "'rules.severity' names no rule: 'member-add'; did you mean"),
        ({"mute": (Mute("nothing"),)}, "'rules.mute' names no rule: 'nothing'"),
        ({"folder": Path("/nowhere")}, "rules.folder '/nowhere' cannot be read: No such file"),
    ],
)
def test_settings_that_name_no_rule_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as told:
        load_rules(RuleSettings(**settings))
    assert message in str(told.value)


def test_an_empty_folder_and_an_id_that_is_taken_are_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="has no rules"):
        load_rules(RuleSettings(folder=folder))
    (folder / "dnssec-off.sql").write_text("select event_id, event_time, '' as key, '' as why from audit_events")
    with pytest.raises(SettingsError, match="has the id of another one"):
        load_rules(RuleSettings(folder=folder))
