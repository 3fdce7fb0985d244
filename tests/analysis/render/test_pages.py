"""Pages: nothing comes from elsewhere, nothing from an event is more than text, every chart has its table."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.report import make_report
from cfaudit_export.analysis.answers.timeline import Focus, make_timeline
from cfaudit_export.analysis.render.charts import Bars, Span, draw_bars, draw_heat, draw_spans
from cfaudit_export.analysis.render.jsonable import tree
from cfaudit_export.analysis.render.report_page import report_page
from cfaudit_export.analysis.render.terminal import render_report, render_timeline
from cfaudit_export.analysis.render.timeline_page import timeline_page
from cfaudit_export.core.model import Window

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
PERIOD = Window(NOON - timedelta(days=2), NOON + timedelta(hours=1))
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "' onmouseover='alert(4)",
    "{{ 7 * 7 }}{% for x in y %}",
    "&lt;b&gt; &amp; &#60;",
    "https://evil.example/x.js",
    "javascript:alert(5)",
    "admin\u202egro.elpmaxe@live\u2066",
    "zero\u200bwidth\ufeff",
    "\x1b[2J\x1b]0;owned\x07",
    "new\nline\r\ttab",
    "]]> --> <!-- <svg onload=alert(6)>",
    "signal.list[0].toString()",
    "ünïcode ☕ 🚀",
    "x" * 400,
]
TEXTS = [
    *("account_name", "action_description", "action_type", "action_result", "actor_context", "actor_email", "actor_id"),
    *("actor_ip_address", "actor_token_name", "actor_type", "resource_id", "resource_product", "resource_type"),
    *("zone_name", "fidelity", "source"),
]


class Page(HTMLParser):
    """What a browser makes of a page: the elements with their attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def hostile_rows() -> list[dict[str, Any]]:
    """Return events whose every text is hostile, each text in each column; some are sign-ins and failures."""
    rows = []
    for number, text in enumerate(HOSTILE):
        row = {name: HOSTILE[(number + at) % len(HOSTILE)] for at, name in enumerate(TEXTS)}
        rows.append(row | {"event_time": NOON - timedelta(minutes=number), "actor_email": text})
        rows.append(
            rows[-1]
            | {"action_type": "delete", "action_result": "failure", "event_time": NOON - timedelta(hours=number)}
        )
        rows.append(rows[-1] | {"action_type": "login", "event_time": NOON - timedelta(days=1, minutes=number)})
    return rows


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, store_rows: Callable[..., Path]) -> Path:
    return store_rows(tmp_path_factory.mktemp("hostile"), hostile_rows())


@pytest.fixture
def report(hostile: Path, opened: Callable[..., Any]) -> Any:
    question = Question(PERIOD, filters={"actor_type": "<script>alert(7)</script>"}, zone="UTC")
    coverage = Coverage(PERIOD, (), ("<b>account</b>",), "<i>reason</i>")
    data = opened(hostile)
    asked = make_report(data, question, coverage=coverage, coverage_before=coverage, now=NOON)
    assert asked.totals.events.count == 0
    question = Question(PERIOD)
    made = make_report(data, question, coverage=coverage, coverage_before=coverage, now=NOON)
    assert made.totals.events.count == 3 * len(HOSTILE)
    return made


@pytest.fixture
def timeline(hostile: Path, opened: Callable[..., Any]) -> Any:
    coverage = Coverage(PERIOD, (), ("<b>account</b>",), "<i>reason</i>")
    focus = Focus(actor=HOSTILE[0], around=NOON)
    return make_timeline(opened(hostile), Question(PERIOD), focus, coverage=coverage, now=NOON)


@pytest.fixture(params=["report", "timeline"])
def page(request: pytest.FixtureRequest) -> str:
    made = request.getfixturevalue(request.param)
    return report_page(made) if request.param == "report" else timeline_page(made)


def test_hostile_texts_make_no_element_and_no_attribute(page: str) -> None:
    parsed = Page(page)
    ours = {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "h1", "h2", "h3"),
        *("p", "ul", "ol", "li", "b", "span", "strong", "time", "figure", "details", "summary", "div"),
        *("table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "g", "path", "rect", "line", "text"),
    }
    assert {tag for tag, _ in parsed.elements} <= ours
    attributes = {name for _, found in parsed.elements for name in found}
    assert not {name for name in attributes if name.startswith("on") or name in ("src", "href", "style", "xlink:href")}
    assert page.count("<script") == 0
    assert len(parsed.all("meta")) == 5


def test_hostile_texts_are_shown(page: str) -> None:
    shown = "\n".join(Page(page).texts)
    assert "<script>alert(1)</script>" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "<b>account</b>" in shown
    assert "admin\\u202egro.elpmaxe@live\\u2066" in shown
    assert "\\x1b[2J\\x1b]0;owned\\x07" in shown
    assert "ünïcode ☕ 🚀" in shown


def test_no_mark_that_hides_or_reorders_is_in_a_page(page: str) -> None:
    marks = {character for character in page if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert marks == {"\n"}


def test_a_page_asks_nothing_of_any_network(page: str) -> None:
    parsed = Page(page)
    assert not parsed.all("link") + parsed.all("script") + parsed.all("img") + parsed.all("iframe") + parsed.all("a")
    [policy] = [one["content"] for one in parsed.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    bare = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"""(?:src|href|action|srcset|data)\s*=\s*["'][^"']*//""", bare)


def test_every_chart_of_a_report_is_labelled_and_has_a_table(report: Any) -> None:
    page = report_page(report)
    parsed = Page(page)
    charts = parsed.all("svg")
    assert len(charts) == 6
    assert {one["width"] for one in charts} == {"960"}, "all charts are as wide as the page"
    assert all(one["role"] == "img" and one["aria-label"] for one in charts)
    for figure in re.findall(r"</figure>\s*(<\w+)", page):
        assert figure == "<details"
    assert len(re.findall(r"<details>.*?<table>.*?</details>", page, re.DOTALL)) == 6
    headings = {one["id"] for one in parsed.all("h2")}
    assert {one["aria-labelledby"] for one in parsed.all("section") + parsed.all("figure")} <= headings
    assert parsed.all("html")[0]["lang"] == "en"
    assert all(one["scope"] in ("col", "row") for one in parsed.all("th"))
    assert len(parsed.all("h1")) == len(parsed.all("main")) == 1


def test_the_chart_of_a_timeline_has_its_table_too(timeline: Any) -> None:
    page = timeline_page(timeline)
    assert len(Page(page).all("svg")) == 1
    assert len(re.findall(r"</figure>\s*<details>.*?<table>.*?</details>", page, re.DOTALL)) == 1


def test_a_terminal_is_given_nothing_that_it_would_obey(report: Any, timeline: Any) -> None:
    stream = StringIO()
    console = Console(file=stream, width=80, color_system=None)
    console.print(render_report(report))
    console.print(render_timeline(timeline))
    text = stream.getvalue()
    marks = {character for character in text if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert marks == {"\n"}
    squeezed = re.sub(r"\s+", "", text)
    assert "\\x1b[2J\\x1b]0;owned\\x07" in squeezed
    assert "<script>alert(1)</script>" in squeezed


def test_json_is_ascii_and_says_the_texts_as_they_are(report: Any) -> None:
    text = json.dumps(tree(report))
    assert text.isascii()
    names = {one["actor"]["name"] for one in json.loads(text)["actors"]}
    assert names == {one.strip() for one in HOSTILE}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(HOSTILE)


@settings(max_examples=40, deadline=None)
@given(names=st.lists(texts, min_size=1, max_size=6), counts=st.data())
def test_no_name_breaks_out_of_a_chart(names: list[str], counts: st.DataObject) -> None:
    drawn = draw_bars(
        Bars(names, {"a": [1] * len(names), names[0]: [2] * len(names)}, ["red", "blue"], across=True), "t"
    )
    parsed = Page(drawn)
    assert {tag for tag, _ in parsed.elements} <= {"svg", "g", "path", "rect", "line", "text"}
    assert not {name for _, found in parsed.elements for name in found if name.startswith("on") or "href" in name}


@pytest.mark.parametrize("length", range(38, 50))
def test_a_name_is_never_cut_within_a_character(length: int) -> None:
    name = "x" * length + "\U00010000" * 60
    drawn = draw_bars(Bars([name], {name: [1], "b": [2]}, ["red", "blue"], across=True), "t")
    assert [text for text in Page(drawn).texts if text.startswith("xxx")]
    spans = [Span(name, NOON, NOON + timedelta(hours=1), failed=False)]
    assert "xxx" in draw_spans(spans, "t")


def test_bars_of_one_name_stay_apart() -> None:
    drawn = draw_bars(Bars(["same", "same"], {"events": [1, 2]}, ["red"], across=True), "title & more")
    assert 'aria-label="title &amp; more"' in drawn
    texts = Page(drawn).texts
    assert {"same", "same (2)"} <= set(texts)


def test_the_legend_of_a_heat_map_says_what_each_shade_stands_for() -> None:
    rows = [("Mon", [0] * 23 + [100]), ("Tue", [1, 26, 51, 76] + [0] * 20)]
    assert {"0", "1-25", "26-50", "51-75", "76-100"} <= set(Page(draw_heat(rows, "t")).texts)
    assert "1" in Page(draw_heat([("Mon", [1] * 24)], "t")).texts


def test_a_session_of_a_moment_is_still_seen() -> None:
    long = Span("b", NOON, NOON + timedelta(hours=9), failed=True)
    drawn = draw_spans([Span("a", NOON, NOON, failed=False), long], "t")
    shapes = re.findall(r'<path d="([^"]+)" fill="var\(--c[13]\)"', drawn)
    widths = []
    for shape in shapes:
        across = [float(x) for x in re.findall(r"(-?[0-9.]+),-?[0-9.]+", shape)]
        widths.append(max(across) - min(across))
    assert 2 <= widths[0] <= 4
    assert 700 <= widths[1] <= 960
