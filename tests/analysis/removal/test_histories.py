"""What is exported, merged, erased and removed on record, in any order, stays proved; and nothing else hides there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_export.analysis.files.compact import compact
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.files.sealed import sealed_files
from cfaudit_export.analysis.removal.erase import erase
from cfaudit_export.analysis.removal.person import Person, find_person
from cfaudit_export.analysis.removal.retention import remove_before
from cfaudit_export.proof.append import newest_entry
from cfaudit_export.proof.folder import ManifestFolder

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 4
Step = tuple[Literal["export", "merge", "erase", "remove"], int]
steps = st.tuples(st.sampled_from(["export", "export", "merge", "erase", "remove"]), st.integers(0, DAYS - 1))


def email(number: int) -> str:
    return f"person{number}@example.com"


def take(export: Any, working: Callable[..., Any], step: Step, seed: int) -> None:
    what, number = step
    match what:
        case "export":
            emails = [email((row + seed) % DAYS) for row in range(8)]
            export.seal(export.store(number, rows=8, seed=seed, days=1 + seed % 2, actor_email=emails))
        case "merge":
            sealed = sealed_files(export.root, export.keys, export.clock)
            now = FIRST + timedelta(days=30)
            list(compact(open_location(str(export.root)), now=now, settled=timedelta(), sealed=sealed))
        case "erase":
            assert all(one.events for one in erase(*working(export), Person((email(number),))))
        case "remove":
            done = list(remove_before(*working(export), date(2026, 11, 1 + number)))
            assert all(hasattr(one, "files") for one in done)
    entry = newest_entry(ManifestFolder(export.root / "_cfaudit/manifests"), export.chain)
    assert entry is not None
    export.sequence, export.previous = entry.link.sequence, entry.link.sha256


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, max_size=6), victim=st.integers(0, 99))
def test_any_history_is_proved_and_a_file_that_is_gone_shows(
    history: list[Step], victim: int, make: Callable[..., Any], working: Callable[..., Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export = make(Path(folder))
        erased: set[tuple[int, int]] = set()  # whom, and when
        for seed, step in enumerate([("export", 0), *history]):
            take(export, working, step, seed)
            erased |= {(step[1], seed)} if step[0] == "erase" else set()
        found = export.verify()
        assert found.exit_code == 0, list(found.lines)
        exported = [seed for seed, step in enumerate([("export", 0), *history]) if step[0] == "export"]
        for whom, when in erased:
            if all(seed < when for seed in exported):
                tables = [pq.read_table(path, partitioning=None) for path in export.files()]
                assert not any(find_person(one, Person((email(whom),))).count for one in tables)
        if files := export.files():
            files[victim % len(files)].unlink()
            assert export.verify().exit_code == 1
