from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.codemode.decode import decode_page
from cfaudit_export.sources.codemode.mask import DEEPEST
from cfaudit_export.sources.mcp.json_text import cover_surrogates

TIME = "2026-11-19T12:00:00.123Z"
COLUMNS = {
    "event_id": ("id",),
    "account_name": ("account", "name"),
    "action_type": ("action", "type"),
    "action_result": ("action", "result"),
    "action_description": ("action", "description"),
    "actor_id": ("actor", "id"),
    "actor_type": ("actor", "type"),
    "actor_email": ("actor", "email"),
    "actor_context": ("actor", "context"),
    "actor_ip_address": ("actor", "ip_address"),
    "key_token_name": ("actor", "token_name"),
    "resource_id": ("resource", "id"),
    "resource_type": ("resource", "type"),
    "resource_product": ("resource", "product"),
    "resource_scope": ("resource", "scope"),
    "raw_cf_ray_id": ("raw", "cf_ray_id"),
    "raw_method": ("raw", "method"),
    "raw_uri": ("raw", "uri"),
    "raw_user_agent": ("raw", "user_agent"),
    "zone_id": ("zone", "id"),
    "zone_name": ("zone", "name"),
    "organization_id": ("organization", "id"),
    "organization_name": ("organization", "name"),
}
EMPTY_IS_NONE = {"event_id", "action_description"}
MISSING = object()
FREE_FORM = ("request", "response", "value")

characters = st.sampled_from('aé☕😀"\\/\n\ud800\udc00 ') | st.characters()
texts = st.text(characters, max_size=6)
odd = st.none() | st.booleans() | st.integers(-5, 5) | st.lists(texts, max_size=2) | st.dictionaries(texts, texts)
value = st.one_of(texts, texts, texts, odd)
few = st.sampled_from(["ada", "", "Grace \ud800", None, 7, {"of": ["any"]}])


def members(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that lack any of their members now and then."""
    some = st.fixed_dictionaries({name: one | one | st.just(MISSING) for name, one in values.items()})
    return some.map(lambda drawn: {name: one for name, one in drawn.items() if one is not MISSING})


def part(*names: str, of: st.SearchStrategy[Any] = value) -> st.SearchStrategy[Any]:
    return st.one_of(*[members(**dict.fromkeys(names, of))] * 5, st.none(), odd)


token = part("id", "name", of=few)
records = members(
    action=members(time=st.just(TIME), type=value, result=value, description=value),
    account=part("name", of=few),
    actor=st.one_of(
        members(**dict.fromkeys(("id", "type", "email", "context", "ip_address"), few), token=token),
        members(token_id=few, token_name=few, token=token),
        odd,
    ),
    id=value,
    raw=part("cf_ray_id", "method", "uri", "user_agent"),
    resource=part("id", "type", "product", "scope", *FREE_FORM),
    zone=part("id", "name", of=few),
    organization=part("id", "name", of=few),
    unheard_of=value,
).map(lambda record: {**record, "action": {**record.get("action", {}), "time": TIME}})


@st.composite
def pages(draw: st.DrawFn) -> tuple[bytes, list[dict[str, Any]], list[str]]:
    rows = draw(st.lists(records, min_size=1, max_size=5, unique_by=json.dumps))  # given twice, a record is one
    ascii_only, gap = draw(st.booleans()), draw(st.sampled_from(["", " ", "\n\t"]))
    written = [as_json(row, gap, ascii_only=ascii_only) for row in rows]
    errors = draw(st.sampled_from(["", '"errors":[],', r'"errors":["\ud801"],']))
    body = f'{{{errors}"result":{gap}[{gap}{f"{gap},{gap}".join(written)}{gap}],"result_info":{{}}}}'
    return body.encode(), rows, written


def as_json(whole: Any, gap: str = "", *, ascii_only: bool = False) -> str:
    """Write JSON; halves of surrogate pairs are escaped in any case, as UTF-8 has none."""
    text = json.dumps(whole, ensure_ascii=ascii_only, separators=(f",{gap}", f":{gap}"))
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def of(record: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = record
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def same(column: str | None, whole: Any) -> bool:
    """Say whether a column holds a text, or the JSON of anything else; halves of pairs are replaced there."""
    if whole is None or column is None:
        return whole is None and column is None
    if isinstance(whole, str):
        return column == replaced(whole)
    return json.loads(column) == json.loads(replaced(as_json(whole)))


def replaced(text: str) -> str:
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    return re.sub(r"(?<!\\)((?:\\\\)*)\\ud[89a-f]..", "\\1\ufffd", text)


@given(pages())
def test_columns_hold_what_the_record_says_whatever_its_types(page: tuple[bytes, list[Any], list[str]]) -> None:
    body, rows, written = page
    decoded = decode_page(memoryview(body), "next")
    decoded.rows.validate(full=True)
    table = decoded.rows.drop_columns("event_time").to_pylist()
    assert [row["event_raw"] for row in table] == written
    for row, record in zip(table, rows, strict=True):
        for name, path in COLUMNS.items():
            expected = of(record, path)
            assert same(row[name], None if expected == "" and name in EMPTY_IS_NONE else expected), name
        for name in ("id", "name"):
            used = of(record, ("actor", "token", name))
            used = of(record, ("actor", f"token_{name}")) if used in (None, "") else used
            assert same(row[f"actor_token_{name}"], used)
        for name in FREE_FORM:
            free = row[f"resource_{name}"]
            expected = of(record, ("resource", name))
            assert (free is None) == (expected is None)
            assert free is None or json.loads(free) == json.loads(covered(as_json(expected)))


def covered(text: str) -> str:
    return cover_surrogates(text.encode()).decode()


def test_only_the_row_of_an_odd_place_is_looked_up_and_stays_as_received() -> None:
    deep = "[" * (DEEPEST + 50) + "]" * (DEEPEST + 50)
    rows = [
        {"action": {"time": TIME, "description": "plain \ufffd"}, "id": "1"},
        {"action": {"time": TIME, "description": "half \ud83d"}, "id": "2", "resource": {"value": json.loads("[[]]")}},
        {"action": {"time": TIME}, "id": "3", "resource": {"request": "DEEP"}},
        {"action": {"time": TIME, "description": "half \udc00"}, "id": "4"},
    ]
    written = [as_json(row).replace('"DEEP"', deep) for row in rows]
    page = decode_page(f'{{"result":[{written[0]} , {",".join(written[1:])}]}}'.encode(), None)
    assert page.rows["event_raw"].to_pylist() == written
    assert page.rows["action_description"].to_pylist() == ["plain \ufffd", "half \ufffd", None, "half \ufffd"]
    request = page.rows["resource_request"].to_pylist()
    assert (len(request[2]), request[2][:DEEPEST].strip("[")) == (len(deep), "")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"result":{}}'])
def test_what_is_no_page_of_records_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_page(body, None)


@pytest.mark.parametrize("odd", ["1", "null", "[]", '{"id":"1"}', '{"id":"1","action":{"time":"soon"}}'])
def test_a_record_without_a_time_is_unreadable_and_the_others_are_read(odd: str) -> None:
    whole = f'{{"id":"a","action":{{"time":"{TIME}"}}}}'
    page = decode_page(f'{{"result":[{whole},{odd}],"result_info":{{"count":2}}}}'.encode(), None)
    assert page.rows["event_id"].to_pylist() == ["a"]
    assert [row.rows for row in page.unreadable] == [1]
    assert page.count == 2


def test_an_id_stands_for_one_event_however_often_a_page_has_it() -> None:
    whole = f'{{"id":"a","action":{{"time":"{TIME}"}}}}'
    page = decode_page(f'{{"result":[{whole},{whole}],"result_info":{{"count":2}}}}'.encode(), None)
    assert page.rows["event_id"].to_pylist() == ["a"]
    assert page.count == 1


def test_two_events_of_one_id_are_two() -> None:
    rows = ",".join(f'{{"id":"a","action":{{"time":"{TIME}","description":"{word}"}}}}' for word in ("x", "y"))
    page = decode_page(f'{{"result":[{rows}],"result_info":{{"count":2}}}}'.encode(), None)
    assert page.rows["action_description"].to_pylist() == ["x", "y"]
    assert page.count == 2
