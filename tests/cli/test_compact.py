"""`compact`: says what it does, or would do, and for what it is not made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def out(exported: Any, tmp_path: Path) -> Path:
    """The export without manifests, and beside each file another: the same events under other names."""
    folder = tmp_path / "out"
    shutil.copytree(exported.out, folder, ignore=shutil.ignore_patterns("_cfaudit"))
    for path in list(folder.rglob("*.parquet")):
        shutil.copy(path, path.with_name(f"{'0' * 32}.parquet"))
    return folder


def test_it_says_what_it_would_do_then_does_it_then_has_nothing_to_do(cli: Cli, out: Path, exported: Any) -> None:
    files = sorted(out.rglob("*.parquet"))
    would = cli("compact", "--data", out, "--dry-run")
    assert (would.code, would.out) == (0, "")
    assert sorted(out.rglob("*.parquet")) == files
    did = cli("compact", "--data", out)
    assert (did.code, did.out) == (0, "")
    lines = did.err.splitlines()
    assert len(lines) == len(would.err.splitlines()) > 20
    assert all(f"account {exported.account}, 20" in line and "became one (" in line for line in lines)
    assert "2 files would become one, " in would.err
    assert len(list(out.rglob("*.parquet"))) == len(files) - len(lines)
    counted = cli("sql", "--data", out, "select count(*) as n from audit_events", "--format", "json")
    assert json.loads(counted.out) == [{"n": 2 * len(exported.events)}]
    assert cli("compact", "--data", out).err == "nothing to merge\n"


def test_as_json_it_lists_each_day(cli: Cli, out: Path, exported: Any) -> None:
    done = json.loads(cli("compact", "--data", out, "--account", exported.account, "--json").out)
    assert {(one["merged"], one["removed"]) for one in done} == {(2, 2)}
    assert all(one["bytes_after"] < one["bytes_before"] for one in done)
    assert json.loads(cli("compact", "--data", out, "--json").out) == []


def test_leftovers_of_a_run_that_was_stopped_are_removed_and_said(cli: Cli, out: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(out, kept)
    cli("compact", "--data", out)
    [merged, *_] = sorted(out.rglob("merged-*.parquet"))
    name = f"{'0' * 32}.parquet"
    shutil.copy(kept / merged.parent.relative_to(out) / name, merged.with_name(name))
    result = cli("compact", "--data", out)
    assert result.line.endswith(": 1 merged file removed")
    assert not merged.with_name(name).exists()


def test_it_is_not_for_buckets_and_says_why(cli: Cli, place: Path) -> None:
    result = cli("compact", "--data", "s3://audit/logs")
    assert result.code == 2
    assert "compact works on folders, not on 's3://audit/logs'" in result.line
    assert "would deliver a merged batch again" in " ".join(cli("compact", "--help").out.split())
