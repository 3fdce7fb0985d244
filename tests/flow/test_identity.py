"""The same events, read over HTTP in other pages, pieces, windows and runs, have the same ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, tzinfo=UTC)
MINUTES = 120
START = END - timedelta(minutes=MINUTES)
_NUMBERS = itertools.count()

cuts = st.sets(st.integers(1, MINUTES * 60_000 - 1), max_size=3).map(sorted)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Events so dense that many share their millisecond, and many are alike in all that the server gives."""
    options = SandboxOptions(events=400, span_seconds=MINUTES * 60, end_at=END, ties=0.5, twins=0.4)
    with Sandbox(World(options)) as sandbox:
        yield sandbox


def exported(place: Any, capsys: Any, cuts_ms: list[int], *more: str) -> dict[str, str]:
    """Export in one run for each interval between cuts; return what was received by id."""
    number = next(_NUMBERS)
    fresh = replace(place, root=place.root / f"machine-{number}")
    fresh.root.mkdir()
    edges = [START, *(START + timedelta(milliseconds=ms) for ms in cuts_ms), END + timedelta(minutes=1)]
    times = [edge.isoformat(timespec="milliseconds") for edge in edges]
    for since, until in itertools.pairwise(times):
        ended = fresh.here(capsys, "--since", since, "--until", until, *more)
        assert ended.code == 0, ended.err
    rows = fresh.rows()
    assert rows.num_rows == len(set(rows["event_id"].to_pylist())) == 400
    return dict(zip(rows["event_id"].to_pylist(), rows["event_raw"].to_pylist(), strict=True))


@pytest.fixture
def place(sandbox: Sandbox, place_of: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    place = place_of(sandbox, "--recover", "off")
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    return place


@pytest.fixture
def ids(place: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What all other readings are held to."""
    return exported(place, capsys, [])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts_ms=cuts, page_size=st.integers(3, 400), piece_rows=st.integers(20, 500), concurrency=st.integers(1, 5))
def test_the_same_events_have_the_same_ids_however_they_are_read(
    place: Any,
    ids: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    cuts_ms: list[int],
    page_size: int,
    piece_rows: int,
    concurrency: int,
) -> None:
    more = (f"page_size={page_size}", f"piece_rows={piece_rows}", f"concurrency={concurrency}")
    flags = [word for one in more for word in ("-o", f"sources.auditlogs.{one}")]
    assert exported(place, capsys, cuts_ms, *flags) == ids
