"""A run's report and its checkpoint, and samples as Prometheus' own client reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_fd_to_metric_families

from cfaudit_export.core.model import (
    Checkpoint,
    Gap,
    Intent,
    Lateness,
    Proof,
    RunReport,
    SinkProgress,
    SinkReport,
    Stream,
    Window,
)
from cfaudit_export.errors import ExitCode

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
STREAM = Stream("0f3c1e5a7b9d2468ace013579bdf2468", "auditlogs")
GAP = Gap(Window(NOW - 2 * HOUR, NOW - HOUR), 3, "odd", NOW, NOW)
REPORT = RunReport(
    STREAM,
    NOW - timedelta(seconds=90),
    NOW,
    Window(NOW - 9 * HOUR, NOW - HOUR),
    windows=4,
    events=1_000,
    calls=7,
    trimmed=20,
    completed=7,
    sinks=(
        SinkReport("parquet", 2, 900, 30, 5, loaded_bytes=123_456),
        SinkReport("s3", error="down", exit_code=ExitCode.SINK_DOWN),
    ),
    gaps=(GAP,),
    exit_code=ExitCode.SINK_DOWN,
    extra={"retries": 3, "throttles": 1, "waited_seconds": 12.5},
)
CHECKPOINT = Checkpoint(
    STREAM,
    {
        "parquet": SinkProgress(
            (Window(NOW - 9 * HOUR, NOW - HOUR),),
            rows=5_000,
            quarantined=5,
            trimmed_rows=51,
            proof=Proof(42, "0123456789ab" + "f" * 52),
        ),
        "s3": SinkProgress(
            (Window(NOW - 9 * HOUR, NOW - 8 * HOUR), Window(NOW - 7 * HOUR, NOW - 6 * HOUR)),
            intents=(Intent("ab" * 16, Window(NOW - 6 * HOUR, NOW - 5 * HOUR), 9, "0" * 64),),
        ),
        "new": SinkProgress(),
    },
    (GAP,),
    Lateness(100, 7_000.5, {1: 60, 5: 31, 60: 8, 360: 1}),
)

Families = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture
def report() -> Callable[..., RunReport]:
    """Make a report of a run with a bit of everything."""
    return lambda **changes: replace(REPORT, **changes)


@pytest.fixture
def checkpoint() -> Checkpoint:
    return CHECKPOINT


@pytest.fixture
def parsed() -> Callable[[Path], Families]:
    """Read a metrics file: name of the metric to its values by labels; the type is among them under no labels."""

    def parse(path: Path) -> Families:
        with path.open() as file:
            families: Any = list(text_fd_to_metric_families(file))
        assert len({family.name for family in families}) == len(families)
        return {
            sample.name: {
                tuple(sorted(other.labels.items())): other.value
                for other in family.samples
                if other.name == sample.name
            }
            for family in families
            for sample in family.samples
        }

    return parse
