"""Counts in, charts as SVG out, drawn by Vega-Lite without a browser, without scripts, without a network.

Colours are CSS variables of the page, so that one chart is readable on white, on black and on paper. Texts are made
safe before they are drawn, and of what comes back only drawing elements and plain attributes are kept.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cfaudit_export.analysis.render.tables import SHADES, shade
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.installing import install_command
from cfaudit_export.errors import SettingsError

_SVG = "http://www.w3.org/2000/svg"
_ELEMENTS = {"svg", "g", "path", "rect", "line", "text", "title"}
_ATTRIBUTES = {
    *("class", "d", "transform", "viewBox", "width", "height", "x", "x2", "y", "y2", "opacity"),
    *("fill", "fill-opacity", "font-family", "font-size", "font-weight", "text-anchor"),
    *("stroke", "stroke-dasharray", "stroke-miterlimit", "stroke-opacity", "stroke-width"),
}
_WIDTH = 960
_NAME = 48
_UNCUT = 0  # Vega cuts texts in the middle of a character, which it then cannot measure; names are cut here
_CONFIG = {
    "background": None,
    "autosize": {"type": "fit-x", "contains": "padding"},
    # Widths are measured with a metric twin of the first; others may be wider, hence the room at the left.
    "font": "Arial, 'Liberation Sans', Helvetica, sans-serif",
    "padding": {"left": 28, "right": 8, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "labelLimit": _UNCUT,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "labelFontSize": 12,
        "labelLimit": _UNCUT,
        "orient": "top",
    },
}


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars, each stacked of series.

    Attributes:
        names: what each bar stands for, in order.
        series: name of a series to its counts, one for each bar; the order is that of the stack.
        colours: CSS variable of each series.
        across: whether the bars lie, with the names at the side.
    """

    names: Sequence[str]
    series: Mapping[str, Sequence[int]]
    colours: Sequence[str]
    across: bool = False


def draw_bars(bars: Bars, title: str) -> str:
    """Return the chart. `title` is what it is called where it cannot be seen."""
    names = _distinct([escaped(name, _NAME) for name in bars.names])
    values = [
        {"name": name, "series": escaped(series, _NAME), "order": order, "events": counts[at]}
        for order, (series, counts) in enumerate(bars.series.items())
        for at, name in enumerate(names)
    ]
    place = {"field": "name", "type": "nominal", "sort": None, "title": None}
    size = {
        "field": "events",
        "type": "quantitative",
        "title": "events",
        "axis": {"tickMinStep": 1, "tickCount": 6, "format": ",d"},
    }
    colour = {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": [escaped(one, _NAME) for one in bars.series], "range": list(bars.colours)},
        "legend": None if len(bars.series) == 1 else {"title": None},
    }
    upright = {**place, "axis": {"labelAngle": 0 if len(names) <= 10 else -60, "labelOverlap": True}}
    encoding = {"y": place, "x": size} if bars.across else {"x": upright, "y": size}
    step: Any = {"step": 24} if bars.across else 220
    return _draw(
        {
            "data": {"values": values},
            "mark": {"type": "bar"},
            "width": _WIDTH,
            "height": step,
            "encoding": {**encoding, "color": colour, "order": {"field": "order", "type": "quantitative"}},
        },
        title,
    )


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: in which row, from when to when, and whether something in it failed."""

    name: str
    first: datetime
    last: datetime
    failed: bool


def draw_spans(spans: Sequence[Span], title: str) -> str:
    """Return a row of stretches for each name; times are drawn as the clocks of their time zone show them."""
    begin, end = min(one.first for one in spans), max(one.last for one in spans)
    shortest = max((end - begin) / _WIDTH * 4, timedelta(seconds=1))  # a session of one event would not be seen
    values = [
        {
            "name": escaped(one.name, _NAME),
            "first": _clock(one.first),
            "last": _clock(max(one.last, one.first + shortest)),
            "ended": "with failures" if one.failed else "no known failure",
        }
        for one in spans
    ]
    form = "%H:%M" if end - begin < timedelta(days=1) else "%m-%d %H:%M"
    clock = {"type": "temporal", "scale": {"type": "utc"}, "title": None, "axis": {"format": form, "tickCount": 8}}
    ended = {"domain": ["no known failure", "with failures"], "range": ["var(--c1)", "var(--c3)"]}
    return _draw(
        {
            "data": {
                "values": values,
                "format": {"parse": {"first": "utc:'%Y-%m-%dT%H:%M:%S.%L'", "last": "utc:'%Y-%m-%dT%H:%M:%S.%L'"}},
            },
            "mark": {"type": "bar", "height": 12, "cornerRadius": 2},
            "width": _WIDTH,
            "height": {"step": 22},
            "encoding": {
                "y": {"field": "name", "type": "nominal", "sort": None, "title": None},
                "x": {"field": "first", **clock},
                "x2": {"field": "last"},
                "color": {"field": "ended", "type": "nominal", "scale": ended, "legend": {"title": None}},
            },
        },
        title,
    )


def _clock(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds")


def draw_heat(rows: Sequence[tuple[str, Sequence[int]]], title: str) -> str:
    """Return a map of 24 hours: a row is a label and the counts of its hours."""
    most = max((count for _, counts in rows for count in counts), default=0)
    steps = [_range(level, most) for level in range(SHADES + 1)]
    values = [
        {"day": label, "hour": hour, "events": steps[shade(count, most)]}
        for label, counts in rows
        for hour, count in enumerate(counts)
    ]
    return _draw(
        {
            "data": {"values": values},
            "mark": {"type": "rect", "stroke": "var(--page)", "strokeWidth": 1},
            "width": _WIDTH,
            "height": {"step": 18},
            "encoding": {
                "x": {"field": "hour", "type": "ordinal", "title": "hour", "axis": {"labelAngle": 0}},
                "y": {"field": "day", "type": "ordinal", "sort": None, "title": None},
                "color": {
                    "field": "events",
                    "type": "nominal",
                    "scale": {"domain": steps, "range": [f"var(--heat{level})" for level in range(SHADES + 1)]},
                    "legend": {"title": "events an hour"},
                },
            },
        },
        title,
    )


def _range(level: int, most: int) -> str:
    """Return the counts that have a shade, as the legend says it."""
    first, last = (0, 0) if not level else (1 - (level - 1) * most // -SHADES, -(level * most // -SHADES))
    if first > last:
        return f"({level})"
    return f"{first:,}" if first == last else f"{first:,}-{last:,}"


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which no two are equal, so that none shares a bar with another."""
    found: dict[str, int] = {}
    distinct = []
    for name in names:
        found[name] = found.get(name, 0) + 1
        distinct.append(name if found[name] == 1 else f"{name} ({found[name]})")
    return distinct


def _draw(chart: Mapping[str, Any], title: str) -> str:
    try:
        import vl_convert
    except ImportError:
        raise SettingsError(f"charts are not installed: run {install_command('analysis')}") from None
    drawn = vl_convert.vegalite_to_svg({**chart, "config": _CONFIG}, allowed_base_urls=[])
    root = ET.fromstring(drawn)  # noqa: S314  # our own drawing, not a document from outside
    ET.register_namespace("", _SVG)
    _strip(root)
    root.set("role", "img")
    root.set("aria-label", title)
    return ET.tostring(root, encoding="unicode")


def _strip(element: ET.Element) -> None:
    """Keep what draws. Descriptions of each mark go too: the table below says the same and can be read."""
    for child in list(element):
        if child.tag.removeprefix(f"{{{_SVG}}}") in _ELEMENTS:
            _strip(child)
        else:
            element.remove(child)
    for name in set(element.attrib) - _ATTRIBUTES:
        del element.attrib[name]
