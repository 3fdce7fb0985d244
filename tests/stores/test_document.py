"""The checkpoint document: what is written comes back, and what was not written by us never passes for it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export import Checkpoint, CheckpointDamagedError, Gap, Stream, Window
from cfaudit_export.core.model import Intent, Lateness, Seen, SeenWindow, SinkProgress, from_ms
from cfaudit_export.core.seal import sealed
from cfaudit_export.errors import ExitCode
from cfaudit_export.stores.document import FORMAT, decode, encode, version_of
from cfaudit_export.testing import full_checkpoint

texts = st.text(st.characters(codec="utf-8"), max_size=20)
counts = st.integers(0, 2**60)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone added
windows = st.builds(
    lambda since, length: Window(from_ms(since), from_ms(since + length)),
    st.integers(0, 10**13),
    st.integers(1, 10**12),
)
hours = moments.map(lambda at: at.strftime("%Y-%m-%dT%H"))
entries = st.lists(st.builds(SeenWindow, windows, texts), max_size=2).map(tuple)
seen = st.builds(Seen, st.dictionaries(hours, texts, max_size=3), entries, entries)
few_windows = st.lists(windows, max_size=3).map(tuple)
intents = st.builds(Intent, texts, windows, counts, texts, seen, counts)
sinks = st.builds(
    SinkProgress, few_windows, seen, st.none() | moments, st.lists(intents, max_size=2).map(tuple), counts, counts
)
gaps = st.builds(Gap, windows, counts, texts, moments, moments, counts, st.lists(texts, max_size=2).map(tuple))
checkpoints = st.builds(
    Checkpoint,
    stream=st.builds(
        Stream, texts, texts, st.lists(st.tuples(texts, texts), max_size=3).map(tuple), texts, st.none() | windows
    ),
    sinks=st.dictionaries(
        texts | st.sampled_from(["window", "slice", "covered", "leased", "since", "before"]), sinks, max_size=3
    ),
    gaps=st.lists(gaps, max_size=2).map(tuple),
    lateness=st.builds(Lateness, counts, st.floats(0, 1e12), st.dictionaries(st.integers(-1, 360), counts)),
    tool=st.none() | texts,
    updated_at=st.datetimes(datetime(2320, 1, 1), datetime(2400, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # as above
    leased=few_windows,
)


def read(document: bytes, stream_id: str | None = None) -> Checkpoint:
    return decode(document, stream_id=stream_id or full_checkpoint().stream.id, where="s3://bucket/it.json")


def changed(path: str, value: Any) -> bytes:
    """Return the full document with the value at a dotted path replaced."""
    tree = json.loads(encode(full_checkpoint()))
    *parents, last = path.split(".")
    place = tree
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return resealed(tree)


def resealed(tree: dict[str, Any]) -> bytes:
    """Return a document with the digest that fits it, as a person makes it who knows how."""
    return sealed(json.dumps({name: value for name, value in tree.items() if name != "digest"}, indent=2).encode())


@given(checkpoints)
def test_what_is_written_comes_back(checkpoint: Checkpoint) -> None:
    assert read(encode(checkpoint), checkpoint.stream.id) == checkpoint


@given(checkpoints)
def test_equal_checkpoints_have_equal_documents(checkpoint: Checkpoint) -> None:
    again = read(encode(checkpoint), checkpoint.stream.id)
    turned = Checkpoint(
        checkpoint.stream,
        dict(reversed(checkpoint.sinks.items())),
        checkpoint.gaps,
        checkpoint.lateness,
        checkpoint.tool,
        checkpoint.updated_at,
        checkpoint.leased,
    )
    assert encode(again) == encode(turned) == encode(checkpoint)


def test_a_person_can_read_and_compare_the_document() -> None:
    lines = encode(full_checkpoint()).decode().splitlines()
    assert lines[1] == '  "format": 3,'
    assert re.fullmatch(r'  "digest": "[0-9a-f]{64}"', lines[-2])
    assert '        "2025-10-16T12:00:00Z/2026-11-20T12:00:00Z",' in lines
    assert '      "window": "2026-11-20T12:00:00Z/2026-11-20T12:00:00.001000Z",' in lines
    assert '        "zoë@例え.jp"' in lines


def test_half_a_surrogate_pair_in_a_reason_does_not_stop_a_save() -> None:
    gap = Gap(Window(from_ms(0), from_ms(1)), 1, "odd \ud83e text", from_ms(0), from_ms(0))
    checkpoint = Checkpoint(Stream("a", "b"), gaps=(gap,))
    assert read(encode(checkpoint), checkpoint.stream.id).gaps[0].reason == "odd ? text"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_arbitrary_bytes_are_damaged_and_nothing_else(document: bytes) -> None:
    with pytest.raises(CheckpointDamagedError):
        read(document)


@given(st.integers(0, len(encode(full_checkpoint())) - 3))
def test_a_document_that_ends_early_is_damaged(length: int) -> None:
    with pytest.raises(CheckpointDamagedError):
        read(encode(full_checkpoint())[:length])


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "truncated"),
        (b'{"format": 1, "gaps": ' + b"[" * 100_000, "recursion"),
        (b"{}", "names no format"),
        (changed("format", "1"), "names no format"),
        (changed("format", 0), "names no format"),
        (changed("stream.account_id", "somebody else"), "belongs to stream"),
        (changed("stream.source", None), r"Expected `str`, got `null` - at `\$.stream.source`"),
        (changed("sinks.parquet.rows", 1.5), r"\$.sinks\[...\].rows"),
        (changed("sinks.parquet.covered", ["2026-11-20T12:00:00Z"]), "Invalid RFC3339"),
        (
            changed("sinks.parquet.covered", ["2026-11-20T12:00:00Z/2026-11-20T11:00:00Z"]),
            "start must be earlier than its end",
        ),
        (changed("sinks.parquet.covered", 3), "Expected `array`"),
        (changed("gaps.0.window", "2026-11-20T12:00:00/2026-11-20T13:00:00"), "needs UTC"),
        (changed("gaps.0.window", None), "Expected `object`"),
        (changed("gaps.0.first_seen_at", "2026-11-20T12:00:00"), "has no zone"),
        (changed("sinks.splunk.seen_since", "2026-11-20T12:00:00"), "has no zone"),
        (changed("updated_at", "2026-11-20T12:00:00"), "has no zone"),
        (changed("sinks.parquet.colour", "blue"), "'sinks.parquet.colour' is not known to this version"),
        (changed("gaps.0.colour", "blue"), "'gaps.0.colour' is not known to this version"),
    ],
)
def test_a_damaged_document_says_what_is_wrong_and_what_to_do(document: bytes, why: str) -> None:
    with pytest.raises(CheckpointDamagedError, match=why) as caught:
        read(document)
    assert str(caught.value).startswith("checkpoint 's3://bucket/it.json' cannot be read: ")
    assert "restore it from a backup, or move it away to start again" in str(caught.value)
    assert caught.value.exit_code is ExitCode.SETTINGS


def test_a_newer_format_asks_for_an_upgrade_even_when_all_else_is_strange() -> None:
    with pytest.raises(
        CheckpointDamagedError, match=r"newer version of cfaudit-export \(format 4, this one reads 3\); upgrade"
    ):
        read(json.dumps({"format": FORMAT + 1, "streams": []}).encode())


def test_a_document_from_before_a_field_was_added_is_read() -> None:
    tree = json.loads(encode(full_checkpoint()))
    del tree["lateness"], tree["sinks"]["parquet"]["quarantined"]
    assert read(resealed(tree)).sinks["parquet"].quarantined == 0


def flat(seen: Any) -> dict[str, str]:
    """Return what a sink remembers as it was written until format 2: kinds told apart by the form of the key."""
    gaps = {one["window"]: one["keys"] for one in seen["gaps"]}
    return seen["hours"] | gaps | {one["window"].replace("/", "="): one["keys"] for one in seen["refilled"]}


def earlier(version: int) -> Any:
    """Return the tree of the full checkpoint in an earlier format."""
    tree = json.loads(encode(full_checkpoint())) | {"format": version}
    for sink in tree["sinks"].values():
        for one in (sink, *sink["intents"]):
            one["seen"] = flat(one["seen"])
    return {"lent" if name == "leased" else name: value for name, value in tree.items()}


def test_a_document_of_the_second_format_is_read_and_written_in_the_present_one() -> None:
    old = read(resealed(earlier(2)))
    assert old == full_checkpoint()
    assert encode(old) == encode(full_checkpoint())


def test_a_document_of_the_first_format_is_read_and_written_with_a_digest() -> None:
    tree = earlier(1)
    del tree["digest"]
    old = read(json.dumps(tree, indent=2).encode())
    assert old == full_checkpoint()
    assert encode(old) == encode(full_checkpoint())


@pytest.mark.parametrize(
    "edit",
    [
        (b"2026-11-20T20:00:00Z", b"2026-12-20T20:00:00Z"),
        (b'"rows": ', b'"rows": 1'),
        (b'\n  "updated_at"', b'\n   "updated_at"'),
        (b'"digest": "', b'"digest": "0'),
        (b'"format": 3', b'"format": 1'),
    ],
)
def test_an_edited_document_is_refused(edit: tuple[bytes, bytes]) -> None:
    document = encode(full_checkpoint())
    assert edit[0] in document
    with pytest.raises(CheckpointDamagedError, match=r"it was changed since it was written|its digest is missing"):
        read(document.replace(*edit, 1))


def test_one_bit_anywhere_in_a_document_is_damage() -> None:
    document = encode(full_checkpoint())
    for position in range(0, len(document) - 1, 7):
        flipped = bytearray(document)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(CheckpointDamagedError):
            read(bytes(flipped))


def test_without_its_digest_a_document_is_damaged() -> None:
    tree = json.loads(encode(full_checkpoint()))
    del tree["digest"]
    with pytest.raises(CheckpointDamagedError, match="its digest is missing"):
        read(json.dumps(tree, indent=2).encode())


def test_coverage_behind_the_moment_of_writing_is_damage() -> None:
    covered = ["2025-10-16T12:00:00Z/2027-01-01T00:00:00Z"]
    with pytest.raises(
        CheckpointDamagedError, match="covers until 2027-01-01T00:00:00.000Z, but was written at 2026-11-20"
    ):
        read(changed("sinks.parquet.covered", covered))


def test_the_version_changes_with_any_byte() -> None:
    document = encode(full_checkpoint())
    assert version_of(document) == version_of(bytes(document))
    assert version_of(document) != version_of(document + b" ")


def test_a_document_of_twenty_megabytes_comes_back() -> None:
    keys = {(from_ms(0) + timedelta(hours=hour)).strftime("%Y-%m-%dT%H"): "A" * 220_000 for hour in range(48)}
    checkpoint = Checkpoint(Stream("a", "b"), {name: SinkProgress(seen=Seen(keys)) for name in ("parquet", "s3")})
    document = encode(checkpoint)
    assert len(document) > 20_000_000
    assert read(document, checkpoint.stream.id) == checkpoint
