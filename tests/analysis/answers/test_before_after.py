"""What an event changed: against the event before it on the same resource."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.analysis.answers import before_after
from cfaudit_export.analysis.answers.before_after import BodyChange, DiffLine, changes_before

START = datetime(2026, 11, 20, 9, tzinfo=UTC)
Changes = Callable[..., dict[str, BodyChange]]


def event(number: int, **columns: Any) -> dict[str, Any]:
    bodies = {name: json.dumps(columns.pop(name)) for name in ("resource_value", "resource_request") if name in columns}
    return {
        "event_id": f"e{number}",
        "event_key": f"e{number}",
        "event_time": START + timedelta(hours=number),
        "resource_id": "r1",
        "resource_product": "dns_records",
        "resource_type": "records",
        "action_type": "update",
        **bodies,
        **columns,
    }


@pytest.fixture
def changes(store_rows: Any, opened: Any, tmp_path: Path) -> Changes:
    """Return what events changed, of those that are stored."""

    def ask(*rows: dict[str, Any], of: tuple[str, ...] = ("e9",)) -> dict[str, BodyChange]:
        return changes_before(opened(store_rows(tmp_path / "data", rows)), of)

    return ask


def test_values_are_compared_with_the_event_before_on_the_same_resource(changes: Changes) -> None:
    found = changes(
        event(1, resource_value={"ttl": 300, "tags": ["a", "b"], "old": None, "proxied": True}),
        event(2, resource_id="r2", resource_value={"ttl": 1}),
        event(3, resource_type="zones", resource_value={"ttl": 2}),
        event(9, resource_value={"ttl": 60, "tags": ["a", "c"], "proxied": True, "note": {"by": "ada"}}),
        event(10, resource_value={"ttl": 3}),
    )["e9"]
    assert (found.before_event_id, found.column, found.left_out) == ("e1", "resource_value", 0)
    assert found.before_time == START + timedelta(hours=1)
    assert found.lines == (
        DiffLine("+", "note.by", "", '"ada"'),
        DiffLine("-", "old", "null", ""),
        DiffLine("~", "tags[1]", '"b"', '"c"'),
        DiffLine("~", "ttl", "300", "60"),
    )


def test_of_a_request_what_is_not_named_is_not_removed(changes: Changes) -> None:
    rows = event(1, resource_request={"ttl": 300, "name": "x"}), event(9, resource_request={"ttl": 60})
    assert changes(*rows)["e9"].lines == (DiffLine("~", "ttl", "300", "60"),)
    assert changes(*rows)["e9"].column == "resource_request"


@pytest.mark.parametrize(
    "rows",
    [
        [event(9, resource_value={"a": 1})],
        [event(1), event(9, resource_value={"a": 1})],
        [event(1, resource_value={"a": 1}, resource_id=None), event(9, resource_value={"a": 1}, resource_id=None)],
        [event(1, resource_value={"a": 1}, action_type="view"), event(9, resource_value={"a": 2})],
        [event(1, resource_value={"a": 1}, action_result="failure"), event(9, resource_value={"a": 2})],
        [event(1) | {"resource_value": "{broken"}, event(9, resource_value={"a": 2})],
        [event(1) | {"resource_value": "[" * 100_000}, event(9, resource_value={"a": 2})],
        [event(1, resource_value=list(range(6_000))), event(9, resource_value=[])],
    ],
)
def test_where_there_is_nothing_to_compare_with_nothing_is_said(changes: Changes, rows: list[Any]) -> None:
    assert changes(*rows) == {}


def test_equal_values_have_no_lines_and_long_lists_are_cut_with_a_count(changes: Changes) -> None:
    rows = [event(1, resource_value={"a": 1}), event(9, resource_value={"a": 1})]
    assert changes(*rows)["e9"].lines == ()
    many = event(1, resource_value=["x" * 200] * 50), event(9, resource_value=["y" * 200] * 50)
    found = changes(*many)["e9"]
    assert (len(found.lines), found.left_out) == (20, 30)
    assert found.lines[0].old.endswith("…(+82)")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_equal_values_and_only_those_have_no_difference(old: Any, new: Any) -> None:
    before, after = (before_after._leaves(json.dumps(one)) for one in (old, new))
    if before is None or after is None:
        return
    lines = list(before_after._lines(before, after, is_whole=True))
    if json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True):
        assert lines == []
    back = {"+": "-", "-": "+", "~": "~"}
    other = list(before_after._lines(after, before, is_whole=True))
    assert [(back[one.sign], one.path, one.new, one.old) for one in other] == [
        (one.sign, one.path, one.old, one.new) for one in lines
    ]
