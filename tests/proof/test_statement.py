"""Manifests: what is written comes back, by one text alone, and what is not ours is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaudit_export import Stream, Window
from cfaudit_export.core.model import StoredFile, from_ms
from cfaudit_export.proof.manifest import (
    BatchEntry,
    BatchPart,
    ErasedEntry,
    GapEntry,
    KeyEntry,
    Manifest,
    ReadEntry,
    Replacement,
    require_inside,
)
from cfaudit_export.proof.statement import PREDICATE, STATEMENT, parse_statement, statement

texts = st.text(st.characters(codec="utf-8"), max_size=12)
counts = st.integers(0, 2**50)
digests = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone added
lengths = st.integers(0, 10**12).map(lambda ms: timedelta(milliseconds=ms))
windows = st.builds(
    lambda since, length: Window(from_ms(since), from_ms(since + length)),
    st.integers(0, 10**12),
    st.integers(1, 10**12),
)
few_windows = st.lists(windows, max_size=3).map(tuple)
few_texts = st.lists(texts, max_size=3).map(tuple)
names = st.uuids().map(lambda id_: f"account_id=a/event_date=2026-11-03/{id_}.parquet")
files = st.builds(StoredFile, names, counts, digests, counts)
few_files = st.lists(files, max_size=2).map(tuple)
batches = st.builds(
    BatchEntry,
    texts,
    windows,
    counts,
    counts,
    st.none() | moments,
    st.none() | moments,
    st.none() | digests,
    st.none() | digests,
    few_files,
)
gaps = st.lists(st.builds(GapEntry, windows, counts, texts, few_texts), max_size=2).map(tuple)
reads = st.builds(
    ReadEntry,
    st.none() | moments,
    st.none() | moments,
    lengths,
    lengths,
    st.integers(-(10**8), 10**8).map(lambda ms: ms / 1000),
)
parts = st.lists(st.builds(BatchPart, texts, counts, digests), max_size=2).map(tuple)
seals = st.builds(
    Manifest,
    kind=st.sampled_from(["seal", "compaction", "retention"]),
    chain=texts,
    sequence=st.integers(2, 10**9),
    previous=digests,
    stream=st.builds(
        Stream, texts, texts, st.lists(st.tuples(texts, texts), max_size=2).map(tuple), texts, st.none() | windows
    ),
    sink=texts,
    location=texts,
    sealed_at=moments,
    program=texts,
    schema_version=counts,
    read=st.none() | reads,
    covered=few_windows,
    covered_total=few_windows,
    batches=st.lists(batches, max_size=3).map(tuple),
    gaps_opened=gaps,
    gaps_closed=gaps,
    gaps_open=counts,
    quarantined=counts,
    replaces=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    transforms=few_texts,
    fidelity=st.dictionaries(texts, counts, max_size=2),
    tool=st.none() | texts,
    replaced=st.lists(st.builds(Replacement, few_files, st.none() | files, parts), max_size=2).map(tuple),
    erased=st.lists(st.builds(ErasedEntry, texts, texts, few_texts, st.none() | digests), max_size=2).map(tuple),
    merged_into=st.none() | texts.filter(bool),
    merged_from=few_texts,
    reason=st.none() | texts.filter(bool),
    checkpoint=st.none() | texts.filter(bool),
)
FILE = StoredFile("account_id=a/event_date=2026-11-03/b1.parquet", 1_234, "c" * 64, 7)
WINDOW = Window(datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC))
FIRST = Manifest(
    kind="seal",
    chain="0123456789abcdef/parquet",
    sequence=1,
    previous=None,
    stream=Stream("a" * 32, "auditlogs", (("actor_email", "x@example.com"),)),
    sink="parquet",
    location="/data",
    sealed_at=datetime(2026, 11, 4, 0, 5, tzinfo=UTC),
    program="0.2.0",
    schema_version=1,
    read=ReadEntry(WINDOW.since, WINDOW.before, timedelta(minutes=5), timedelta(hours=6), -0.25),
    covered=(WINDOW,),
    covered_total=(WINDOW,),
    batches=(BatchEntry("b1", WINDOW, 7, 0, WINDOW.since, WINDOW.since, "d" * 64, "e" * 64, (FILE,)),),
    fidelity={"full": 7},
)


@settings(max_examples=50)
@given(seals)
def test_a_manifest_comes_back_from_its_bytes_which_are_canonical(manifest: Manifest) -> None:
    payload = statement(manifest)
    assert payload == rfc8785.dumps(json.loads(payload))
    assert parse_statement(payload) == manifest


def test_a_statement_is_that_of_in_toto_with_files_as_subjects() -> None:
    tree = json.loads(statement(FIRST))
    assert (tree["_type"], tree["predicateType"]) == (STATEMENT, PREDICATE)
    assert tree["subject"] == [{"name": FILE.name, "digest": {"sha256": FILE.sha256}}]
    predicate = tree["predicate"]
    assert predicate["covered"] == [["2026-11-03T00:00:00.000Z", "2026-11-04T00:00:00.000Z"]]
    assert predicate["batches"][0]["files"] == [{"name": FILE.name, "bytes": 1_234, "rows": 7}]
    assert predicate["read"]["settle_lag"] == 300
    assert not predicate.keys() & {"replaced", "key", "erased", "checkpoint"}


def test_a_change_of_keys_and_a_new_beginning_come_back() -> None:
    key = replace(FIRST, kind="key", batches=(), key=KeyEntry("old", "new"))
    reset = replace(FIRST, kind="reset", previous="a" * 64, reason="the state folder was lost")
    for manifest in (FIRST, key, reset):
        assert parse_statement(statement(manifest)) == manifest


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    gap = GapEntry(WINDOW, 1, "said \ud800 nothing")
    assert parse_statement(statement(replace(FIRST, gaps_opened=(gap,)))).gaps_opened[0].reason == "said ? nothing"


def edited(**fields: Any) -> bytes:
    tree = json.loads(statement(FIRST))
    tree["predicate"] |= fields
    return rfc8785.dumps(tree)


NAMED = {"bytes": 1, "rows": 1}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"{}", "no manifest of cfaudit-export"),
        (b"[]", "no manifest of cfaudit-export"),
        (edited(format=2), "has format 2, and this version reads 1"),
        (edited(format=True), "not in the form"),
        (edited(unknown=1), "not in the form"),
        (edited(gaps_open=0.0) + b" ", "not in the form"),
        (edited(sequence=0), "a number from 1 on"),
        (edited(sequence=2), "and no other, has none before it"),
        (edited(sequence="1"), "sequence"),
        (edited(previous="abc"), "and no other, has none before it"),
        (edited(kind="other"), "kind"),
        (edited(kind="key"), "names keys"),
        (edited(gaps_open=-1), "a count is negative"),
        (edited(covered=[["2026-11-03T00:00:00Z", "2026-11-04T00:00:00Z"]]), "not in the form"),
        (edited(covered=[["2026-11-05T00:00:00.000Z", "2026-11-04T00:00:00.000Z"]]), "earlier than its end"),
        (edited(covered=[["2026-11-05T00:00:00.000Z"]]), "covered"),
        (edited(covered=7), "covered"),
        (edited(sealed_at="2026-11-04"), "sealed_at"),
        (edited(stream=None), "stream"),
        (edited(read=7), "read"),
        (edited(batches=[7]), "batches"),
        (statement(FIRST).replace(b"e" * 64, b"E" * 64), "64 hexadecimal digits"),
        (statement(FIRST).replace(b"c" * 64, b"c" * 63), "64 hexadecimal digits"),
        (statement(FIRST).replace(b'"subject":[{', b'"subject":[{"x":1,'), "64 hexadecimal digits|not in the form"),
        (statement(FIRST)[:-1], "Expecting"),
        (statement(FIRST).replace(b'"format":1', b'"format":1,"format":1'), "comes twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_a_whole_manifest_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_statement(payload)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/./b", "a/", "a\\..\\b", "a\nb", "a\u202eb", "a\0"]
)
def test_a_file_outside_the_data_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="names a file outside the data"):
        require_inside(name)
    tree = json.loads(statement(FIRST))
    tree["subject"][0]["name"] = tree["predicate"]["batches"][0]["files"][0]["name"] = name
    with pytest.raises(ValueError, match="names a file outside the data"):
        parse_statement(rfc8785.dumps(tree))
    with pytest.raises(ValueError, match="names a file outside the data"):
        replace(FIRST, replaced=(Replacement((replace(FILE, name=name),), None),))


def test_a_file_is_named_once() -> None:
    with pytest.raises(ValueError, match="names a file twice"):
        replace(FIRST, batches=FIRST.batches * 2)
