"""Names of manifests and anchors: read as they are written, and nothing else is one."""

from __future__ import annotations

import pytest

from cfaudit_export import Stream
from cfaudit_export.proof.chain import (
    FOLDER,
    Anchor,
    Link,
    chain_of,
    file_name,
    link_to,
    manifest_name,
    parse_anchors,
    parse_name,
)

STREAM = Stream("a" * 32, "auditlogs").id


@pytest.mark.parametrize("sink", ["s3", "parquet", "a/b", "..", ".", "ü %"])
@pytest.mark.parametrize("sequence", [1, 43, 99_999_999, 100_000_000])
def test_the_name_of_a_manifest_says_its_chain_and_its_number(sink: str, sequence: int) -> None:
    chain = chain_of(STREAM, sink)
    name = manifest_name(chain, sequence)
    assert name.startswith(f"{FOLDER}/{STREAM}/")
    assert ".." not in name
    assert name.count("/") == FOLDER.count("/") + 3
    assert parse_name(name.removeprefix(f"{FOLDER}/")) == (chain, sequence)


def test_numbers_have_eight_digits() -> None:
    assert file_name(43) == "00000043.json"


@pytest.mark.parametrize(
    "name",
    [
        "00000001.json",
        "x/parquet/00000001.json",
        f"{STREAM}/parquet/1.json",
        f"{STREAM}/parquet/000000001.json",
        f"{STREAM}/parquet/00000001.json.tsr",
        f"{STREAM}/parquet/.00000001.json",
        f"{STREAM}/a/b/00000001.json",
        f"{STREAM}/parquet/00000001.JSON",
    ],
)
def test_other_files_are_no_manifests(name: str) -> None:
    assert parse_name(name) is None


def test_anchors_are_found_in_a_log() -> None:
    link = link_to(43, b"document")
    assert str(link) == f"43:{link.sha256}"
    assert parse_anchors(str(link)) == (Anchor(link),)
    log = f'{{"event":"run finished","anchor":"{link}"}}\nanchor=44:{"b" * 64} more\nanchor=44:{"b" * 64}\n'
    assert parse_anchors(log) == (Anchor(link), Anchor(Link(44, "b" * 64)))
    named = Anchor(link, chain_of(STREAM, "s3"))
    assert str(named) == f"{STREAM}/s3:{link}"
    assert parse_anchors(f'"{named}" {named}') == (named,)


@pytest.mark.parametrize("text", ["", "43", f"x:{'a' * 64}", f"43:{'A' * 64}"])
def test_a_text_without_an_anchor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="holds no anchor"):
        parse_anchors(text)
