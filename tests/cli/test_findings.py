"""`findings` on the command line, and findings in `report` and `timeline`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from planted.files import write_rows
from planted.stories import taken_over
from planted.world import Story

Cli = Callable[..., Any]


@pytest.fixture
def attacked(exported: Any, tmp_path: Path) -> tuple[tuple[str, ...], datetime]:
    """The export with a story planted a day before its end: the options that name it, and when the story began."""
    folder = shutil.copytree(exported.out, tmp_path / "attacked")
    start = exported.until - timedelta(days=1)
    story = Story(exported.account, start.replace(second=0, microsecond=0), [])
    taken_over(story)
    write_rows(folder, story.rows, "story")
    return ("--data", str(folder), "--state-dir", str(exported.state)), start


def test_the_steps_are_shown_in_order_with_reasons(cli: Cli, attacked: Any) -> None:
    where, _ = attacked
    done = cli("findings", *where, "--since", "3d")
    assert (done.code, done.err) == (0, "")
    steps = ("many failed sign-ins", "API token or key made", "DNSSEC switched off", "many DNS records deleted")
    places = [done.out.index(one) for one in steps]
    assert places == sorted(places)
    assert "HIGH  " in done.out
    assert "from 203.0.113.66" in done.out
    assert "complete: by the checkpoint" in done.out
    assert max(map(cell_len, done.out.splitlines())) <= 80


def test_as_json_it_has_episodes_and_coverage(cli: Cli, attacked: Any) -> None:
    where, start = attacked
    done = cli("findings", *where, "--since", "3d", "--json", "--fail-on-gaps")
    assert (done.code, done.err) == (0, "")
    made = json.loads(done.out)
    assert made["coverage"]["is_complete"] is True
    assert made["found"]["findings"][0]["severity"] == "high"
    [episode] = [one for one in made["episodes"] if one["severity"] == "high"]
    assert episode["findings"][0]["rule"] == "failed-sign-ins"
    assert datetime.fromisoformat(episode["first"]) >= start.astimezone(UTC).replace(second=0, microsecond=0)


def test_the_report_begins_with_them_and_the_timeline_marks_steps(cli: Cli, attacked: Any) -> None:
    where, start = attacked
    report = cli("report", *where, "--since", "3d", "--html", "r.html")
    assert report.code == 0
    page = Path("r.html").read_text()
    assert page.index("What deserves a look") < page.index("Activity by day")
    assert "DNSSEC switched off" in page
    text = cli("report", *where, "--since", "3d").out
    assert text.index("What deserves a look") < text.index("\nCoverage")
    assert json.loads(cli("report", *where, "--since", "3d", "--json").out)["findings"]["findings"]
    timeline = cli("timeline", *where, "--around", start.isoformat(), "--actor", "jonas.ekberg@example.com").out
    assert "Disable DNSSEC: shop-1.example" in timeline
    assert "[high: DNSSEC switched off]" in " ".join(timeline.split())


def test_settings_of_rules_count_and_wrong_ones_are_refused(cli: Cli, attacked: Any) -> None:
    where, _ = attacked
    arguments = ("findings", *where, "--since", "3d", "--json")
    found = json.loads(cli(*arguments, "-o", 'rules.disable=["dnssec-off"]').out)["found"]
    assert "dnssec-off" not in [one["rule"] for one in found["findings"]]
    wrong = cli(*arguments, "-o", "rules.disable=dnsec-off")
    assert (wrong.code, wrong.out) == (78, "")
    assert "did you mean 'dnssec-off'?" in wrong.line
    Path("rules").mkdir()
    Path("rules/x.sql").write_text("-- id: x\nselect nothing from audit_events")
    wrong = cli(*arguments, "-o", "rules.folder=rules")
    assert (wrong.code, wrong.out) == (78, "")
    assert "rule 'rules/x.sql', line 2: " in wrong.line
