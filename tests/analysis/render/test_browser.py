"""Pages in a real browser: charts are drawn in light, dark and print, and nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.answers.coverage import cover
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.report import make_report
from cfaudit_export.analysis.answers.timeline import Focus, make_timeline
from cfaudit_export.analysis.render.report_page import report_page
from cfaudit_export.analysis.render.timeline_page import timeline_page
from cfaudit_export.core.model import EPOCH, Window

DESK, PHONE = 1200, 390
RIGHT_TO_LEFT = "admin\u202egro.elpmaxe@live\u2066"
SCRIPT = '<img src="https://evil.example/x.png" onerror="document.title=1"><script>document.title=2</script>'

# What of each chart a person sees: how many of its shapes have a size and a colour, and which colours.
CHARTS = """
return [...document.querySelectorAll('svg')].map(svg => {
  const shapes = [...svg.querySelectorAll('path, rect')].filter(shape => {
    const box = shape.getBoundingClientRect(), style = getComputedStyle(shape);
    return box.width > 0 && box.height > 0 && /^rgb/.test(style.fill) && style.fill !== 'rgba(0, 0, 0, 0)';
  });
  const ink = [...svg.querySelectorAll('text')].map(text => getComputedStyle(text).fill);
  return {shapes: shapes.length, fills: [...new Set(shapes.map(one => getComputedStyle(one).fill))].sort(),
          ink: [...new Set(ink)], width: svg.getBoundingClientRect().width};
})
"""


@pytest.fixture
def report(exported: Any, opened: Callable[..., Any]) -> str:
    end = exported.end
    period = Window(end - timedelta(days=7), end)
    data = opened(exported.folder, Window(EPOCH, end))
    unknown = cover(period, [], data.accounts)
    made = make_report(data, Question(period), coverage=unknown, coverage_before=unknown, now=end)
    return report_page(made)


@pytest.fixture
def timeline(exported: Any, opened: Callable[..., Any]) -> str:
    noon = exported.end - timedelta(days=1, hours=12)
    period = Window(noon - timedelta(hours=3), noon + timedelta(hours=3))
    focus = Focus(actor="deploy@example.com", around=noon)
    made = make_timeline(opened(exported.folder), Question(period), focus, coverage=cover(period, [], ()), now=noon)
    return timeline_page(made)


class Looker:
    """A person who opens a page, in light or dark, at a desk or on a phone, or on paper."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self._browser = browser
        self._folder = folder
        self.requests: list[str] = []
        self.console: list[str] = []

    def open(self, page: str, *, scheme: str = "light", width: int = DESK, medium: str = "screen") -> None:
        file = self._folder / "page.html"
        file.write_text(page)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=medium, features=features)
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self._browser.get(file.as_uri())
        self.console += [entry["message"] for entry in self._browser.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self._browser.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        # What the browser's own first page does is no matter of ours.
        self.requests += [one["request"]["url"] for one in sent if one["documentURL"] == file.as_uri()]

    def ask(self, command: str, **parameters: Any) -> Any:
        return self._browser.execute_cdp_cmd(command, parameters)

    def run(self, script: str) -> Any:
        return self._browser.execute_script(script)

    def picture(self, name: str) -> bytes:
        """Take a picture of the whole page, and keep it where pytest keeps its folders."""
        picture = base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        (self._folder / f"{name}.png").write_bytes(picture)
        return picture


@pytest.fixture
def looker(browser: Any, tmp_path: Path) -> Looker:
    return Looker(browser, tmp_path)


@pytest.mark.parametrize(("name", "charts"), [("report", 6), ("timeline", 1)])
def test_charts_are_drawn_and_nothing_leaves_the_file(
    name: str, charts: int, looker: Looker, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    page = request.getfixturevalue(name)
    seen = {}
    for scheme in ("light", "dark"):
        looker.open(page, scheme=scheme)
        found = looker.run(CHARTS)
        assert len(found) == charts
        assert all(chart["shapes"] >= 3 and len(chart["ink"]) == 1 for chart in found), found
        paper = looker.run("return getComputedStyle(document.body).backgroundColor")
        seen[scheme] = (paper, found[0]["ink"][0], looker.picture(f"{name}-{scheme}"))
        assert paper not in (found[0]["ink"][0], *found[0]["fills"]), "ink and bars stand out from the paper"
    assert all(light != dark for light, dark in zip(*seen.values(), strict=True))
    assert looker.console == []
    assert set(looker.requests) == {(tmp_path / "page.html").as_uri()}
    assert looker.run("return document.scripts.length + performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("name", ["report", "timeline"])
def test_no_page_is_wider_than_a_phone_or_a_sheet(name: str, looker: Looker, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(name)
    looker.open(page, width=PHONE)
    assert looker.run("return document.documentElement.scrollWidth") <= PHONE
    # Who scrolls does not see that a chart goes on: a peak out of sight is a peak that was not there.
    assert all(PHONE * 3 / 4 <= chart["width"] <= PHONE for chart in looker.run(CHARTS)), "small, but whole"
    assert looker.run(
        "return [...document.querySelectorAll('figure')].every(one => one.scrollWidth <= one.clientWidth)"
    )
    sheet = 794  # A4 at 96 dots an inch
    looker.open(page, width=sheet, medium="print")
    assert looker.run("return document.documentElement.scrollWidth") <= sheet
    tables = looker.run("return [...document.querySelectorAll('details table')].map(one => one.offsetHeight)")
    assert len(tables) == len(looker.run(CHARTS))
    assert min(tables) > 0, "tables behind charts are printed"
    assert base64.b64decode(looker.ask("Page.printToPDF")["data"]).startswith(b"%PDF-")


def test_a_table_behind_a_chart_opens(report: str, looker: Looker) -> None:
    looker.open(report)
    is_seen = "return document.querySelector('details table').checkVisibility()"
    assert looker.run(is_seen) is False
    looker.run("document.querySelector('details summary').click()")
    assert looker.run(is_seen) is True


def test_hostile_texts_are_read_and_not_obeyed(
    looker: Looker, tmp_path: Path, store_rows: Callable[..., Path], opened: Callable[..., Any], exported: Any
) -> None:
    noon = exported.end - timedelta(hours=12)
    texts = dict.fromkeys(("actor_token_name", "action_description", "resource_product", "resource_type"), SCRIPT)
    rows = [{"event_time": noon, "actor_email": RIGHT_TO_LEFT, "action_type": "delete", **texts}]
    data = opened(store_rows(tmp_path / "hostile", rows))
    period = Window(noon - timedelta(hours=1), noon + timedelta(hours=1))
    unknown = cover(period, [], data.accounts)
    question = Question(period)
    pages = {
        "Audit report": report_page(
            make_report(data, question, coverage=unknown, coverage_before=unknown, now=exported.end)
        ),
        "Audit timeline": timeline_page(
            make_timeline(data, question, Focus(), coverage=unknown, now=exported.end),
        ),
    }
    for title, page in pages.items():
        looker.open(page)
        assert looker.run("return document.title") == title
        shown = looker.run("return document.body.innerText")
        assert SCRIPT in shown
        assert "admin\\u202egro.elpmaxe@live\\u2066" in shown
        assert looker.run("return document.images.length + document.scripts.length") == 0
    assert looker.console == []
    assert set(looker.requests) == {(tmp_path / "page.html").as_uri()}
