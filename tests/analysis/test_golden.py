"""Answers over the seeded sandbox, compared with what was looked at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from io import StringIO
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from cfaudit_export.analysis.answers.coverage import cover
from cfaudit_export.analysis.answers.facts import Report
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.report import make_report
from cfaudit_export.analysis.answers.timeline import Focus, make_timeline
from cfaudit_export.analysis.render.jsonable import tree
from cfaudit_export.analysis.render.report_page import report_page
from cfaudit_export.analysis.render.terminal import render_report, render_timeline
from cfaudit_export.core.model import EPOCH, Checkpoint, Window
from cfaudit_export.stores.file import FileStore

WEEK = Window(datetime.fromisoformat("2026-11-12T23:00Z"), datetime.fromisoformat("2026-11-19T23:00Z"))
DAY = Window(datetime.fromisoformat("2026-11-18T00:00Z"), datetime.fromisoformat("2026-11-19T00:00Z"))
LUNCH = datetime.fromisoformat("2026-11-18T12:00Z")


@pytest.fixture
def known(exported: Any) -> list[Checkpoint]:
    store = FileStore(exported.state / "checkpoints")
    found = [store.load(stream_id) for stream_id in store.streams()]
    assert found
    return [one.checkpoint for one in found if one]


@pytest.fixture
def make(
    exported: Any, known: list[Checkpoint], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Window], Report]:
    monkeypatch.chdir(exported.folder.parent)

    def report(period: Window) -> Report:
        data = opened(exported.folder.name, Window(EPOCH, period.before))
        question = Question(period, zone="Europe/Berlin")
        now, then = (cover(one, known, data.accounts, ["parquet"]) for one in (period, question.before))
        return make_report(data, question, coverage=now, coverage_before=then, now=WEEK.before)

    return report


@pytest.fixture
def timeline(
    exported: Any, known: list[Checkpoint], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.chdir(exported.folder.parent)
    period = Window(LUNCH.replace(hour=11), LUNCH.replace(hour=14))
    question = Question(period, zone="Europe/Berlin")
    data = opened(exported.folder.name)
    focus = Focus(actor="deploy@example.com", around=LUNCH)
    coverage = cover(period, known, data.accounts, ["parquet"])
    return make_timeline(data, question, focus, coverage=coverage, now=WEEK.before)


def printed(answer: Any) -> str:
    stream = StringIO()
    Console(file=stream, width=80).print(answer)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def test_the_report_on_a_terminal(make: Callable[[Window], Report], golden: Callable[[str, str], None]) -> None:
    text = printed(render_report(make(WEEK)))
    assert max(map(cell_len, text.splitlines())) <= 80
    golden("report.txt", text)


def test_the_report_as_json(make: Callable[[Window], Report], golden: Callable[[str, str], None]) -> None:
    found = tree(make(DAY))
    assert found["coverage"]["is_complete"] is True
    golden("report.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def test_the_timeline_on_a_terminal(timeline: Any, golden: Callable[[str, str], None]) -> None:
    text = printed(render_timeline(timeline))
    assert max(map(cell_len, text.splitlines())) <= 80
    golden("timeline.txt", text)


def test_the_report_page(make: Callable[[Window], Report], golden: Callable[[str, str], None]) -> None:
    page = report_page(make(DAY))
    assert page.count("<svg ") == 6
    # How wide a text is decides where charts place it, and that is the matter of fonts.
    golden("report.html", re.sub(r"<svg .*?</svg>", "<svg/>", page, flags=re.DOTALL))
