"""Paths: what they mean, and that every way of walking a document agrees with a slow and plain one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_redact.documents import Documents, Scrubbing
from cfaudit_redact.paths import MOST_PARTS, PathRule, Star, kind_of, parse_path, tree_of
from cfaudit_redact.scrub import without_emails

STAR, DEEP = Star(), Star(is_deep=True)
MAIL = Scrubbing(emails=True, secrets=False, hide="<{}>".format)
NOTHING = Scrubbing(emails=False, secrets=False, hide=str)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a",)),
        ("actor.email", ("actor", "email")),
        ("*.email", (STAR, "email")),
        ("**.email", (DEEP, "email")),
        ("a.**", ("a", DEEP)),
        ('"a.b".c', ("a.b", "c")),
        (r'"say \"*\"".c', ('say "*"', "c")),
        ('"**"', ("**",)),
        ('""', ("",)),
        ("a b.ü", ("a b", "ü")),
    ],
)
def test_a_path_is_names_between_dots(text: str, parts: tuple[Any, ...]) -> None:
    assert parse_path(text) == parts


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", 'a"b"', '"a', "a*", "***", ".".join("a" * 101)])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"path|at most {MOST_PARTS} parts"):
        parse_path(text)


KINDS = {
    "email": ("email", "actor_email", "userEmail"),
    "ip": ("ip_address", "clientIPAddress", "ip"),
    "id": ("id", "actor_id"),
    "text": ("name", "zip", "void"),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_the_last_name_says_what_a_value_is(kind: str, name: str) -> None:
    assert kind_of(name) == kind


# -- against a plain walker ---------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c.d", "", "*"])
leaves = st.none() | st.booleans() | st.integers(-3, 10**30) | st.sampled_from(["x", "ä", "", "\U0001f600"])
documents = st.recursive(
    leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3), max_leaves=12
)
paths = st.lists(st.one_of(names, st.sampled_from([STAR, DEEP])), min_size=1, max_size=4).map(tuple)


def matches(path: tuple[Any, ...], way: tuple[str | None, ...]) -> bool:
    """Say whether a path leads to the value at the end of a way; an item of a list has no name."""
    if not path:
        return not way
    first, rest = path[0], path[1:]
    if first == DEEP:
        return matches(rest, way) or (bool(way) and matches(path, way[1:]))
    return bool(way) and (first == STAR or first == way[0]) and matches(rest, way[1:])


def plain(value: Any, way: tuple[str | None, ...], found: list[tuple[Any, ...]]) -> Any:
    if any(matches(path, way) for path in found):
        return masked(value)
    if isinstance(value, dict):
        return {name: plain(one, (*way, name), found) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one, (*way, None), found) for one in value]
    return value


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    return None if value is None else f"<{value if isinstance(value, str) else json.dumps(value)}>"


def rules(found: list[tuple[Any, ...]], action: str = "pseudonym") -> list[PathRule]:
    return [PathRule(action, "", "event_raw", path) for path in found]


def hidden(text: str, found: list[tuple[Any, ...]]) -> str | None:
    walker = Documents(tree_of(rules(found)))
    return walker.hidden(text, lambda _rule, value: f"<{value}>", NOTHING, 1)


@settings(max_examples=400)
@given(documents, st.lists(paths, max_size=4))
def test_any_paths_through_any_document_hide_what_a_plain_walker_hides(
    document: Any, found: list[tuple[Any, ...]]
) -> None:
    text = json.dumps(document)
    done = hidden(text, found)
    assert done is not None
    assert json.loads(done) == plain(document, (), found)


@settings(max_examples=200)
@given(documents, st.lists(paths, min_size=1, max_size=4))
def test_of_what_is_to_stay_everything_stays_and_nothing_else(document: Any, found: list[tuple[Any, ...]]) -> None:
    walker = Documents(tree_of([]), tree_of(rules(found, "keep")))
    done = walker.hidden(json.dumps(document), lambda _rule, value: value, NOTHING, 1)
    assert (None if done is None else json.loads(done)) == projected(document, (), found)[1]


def projected(value: Any, way: tuple[str | None, ...], found: list[tuple[Any, ...]]) -> tuple[bool, Any]:
    if any(matches(path, way) for path in found):
        return True, value
    if isinstance(value, dict):
        kept = {name: projected(one, (*way, name), found) for name, one in value.items()}
        left: Any = {name: one for name, (stays, one) in kept.items() if stays}
    elif isinstance(value, list):
        left = [one for stays, one in (projected(one, (*way, None), found) for one in value) if stays]
    else:
        return False, None
    return bool(left), left or None


# -- the bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [("b",), (DEEP, "b")])
def test_what_no_path_leads_to_keeps_its_bytes(path: tuple[Any, ...]) -> None:
    text = '{ "a" : [1.10, 1E5,\t"\\u00e4"], "c":{} }'
    if path == ("b",):
        assert hidden(text, [path]) == text
    else:
        assert hidden(text, [path]) == '{"a":[1.10,1E5,"ä"],"c":{}}'


def test_numbers_and_the_order_of_names_stay_as_they_were_written() -> None:
    text = '{"z":123456789012345678901234567890,"b":"x","a":1.10,"e":[-0.0,1E400,0.1000000000000000055511151231257827]}'
    for path in (("b",), (DEEP, "b")):
        assert hidden(text, [path]) == text.replace('"x"', '"<x>"')


@pytest.mark.parametrize("path", [("b",), (DEEP, "b"), ("o", "b"), (STAR, "b")])
def test_a_member_that_stands_there_twice_hides_nothing(path: tuple[Any, ...]) -> None:
    for second in ('"y"', "null", "{}", "1"):
        text = f'{{"b":"secret","o":{{"b":"secret","b":{second}}},"b":{second}}}'
        done = hidden(text, [path])
        assert done is not None
        if path == ("b",):  # nothing leads into `o`
            done = done.partition('"o"')[0] + done.rpartition("}")[0].rpartition("}")[2]
        elif path != (DEEP, "b"):
            done = done.partition('"o"')[2].partition("}")[0]
        assert "secret" not in done


@pytest.mark.parametrize("path", [("a",), (DEEP, "a"), ("a", "b")])
def test_a_name_is_found_however_it_is_written(path: tuple[Any, ...]) -> None:
    done = hidden('{"\\u0061":{"\\u0062":"secret"}}', [path])
    assert done is not None
    assert "<secret>" in done


@pytest.mark.parametrize("text", ['{"a":"\\ud800x","b":"v"}', '{"b":"v","c":[NaN,1]}'])
def test_what_only_a_lenient_reader_reads_is_hidden_too(text: str) -> None:
    for path in (("b",), (DEEP, "b")):
        done = hidden(text, [path])
        assert done is not None
        assert '"<v>"' in done
        assert "\\ud800" in done or "NaN" in done


@pytest.mark.parametrize(
    "text", ["", "{", '{"b":"secret"', "[" * 100_000 + "]" * 100_000, '{"b":' + "9" * 5_000 + "}x"]
)
def test_what_cannot_be_read_is_dropped_and_counted(text: str) -> None:
    walker = Documents(tree_of(rules([(DEEP, "b")])))
    assert walker.hidden(text, lambda _rule, value: value, NOTHING, 1) is None
    assert walker.dropped == 1


def test_paths_into_lists_and_numbers_lead_nowhere() -> None:
    for text in ('{"a":[{"b":"v"}]}', '{"a":1}', '{"a":null}', '"a"', "1", "[]"):
        assert hidden(text, [("a", "b")]) == text
    assert hidden('{"a":[{"b":"v"},{"b":1}]}', [("a", STAR, "b")]) == '{"a":[{"b":"<v>"},{"b":"<1>"}]}'


def test_ten_thousand_paths_and_twenty_megabytes_are_walked() -> None:
    found = [(f"n{at}", "email") for at in range(10_000)]
    text = json.dumps({"n9999": {"email": "v"}, "big": "x" * 20_000_000}, separators=(",", ":"))
    done = hidden(text, found)
    assert done is not None
    assert '"email":"<v>"' in done
    assert len(done) == len(text) + 2


emails = st.sampled_from(["ada@b.c", "\nada@b.c", "x", "é@b", "\\u0040", 'q"ada@b.c', "a%40b.c", ""])
mailing = st.recursive(
    emails | st.integers(0, 9), lambda below: st.lists(below, max_size=3) | st.dictionaries(emails, below, max_size=3)
)


@settings(max_examples=300)
@given(mailing, st.booleans())
def test_addresses_in_a_text_are_hidden_as_in_its_strings(document: Any, is_ascii: bool) -> None:  # noqa: FBT001  # drawn
    def scrubbed(value: Any) -> Any:
        if isinstance(value, dict):
            return {scrubbed(name): scrubbed(one) for name, one in value.items()}
        if isinstance(value, list):
            return [scrubbed(one) for one in value]
        return without_emails(value, "<{}>".format) if isinstance(value, str) else value

    text = json.dumps(document, ensure_ascii=is_ascii)
    for raw in (text, text.replace("@", "\\u0040")):
        done = Documents(tree_of([])).hidden(raw, lambda _rule, value: value, MAIL, 1)
        assert done is not None
        assert json.loads(done) == scrubbed(document)
