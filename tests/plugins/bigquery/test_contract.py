"""The promises that every sink keeps, against the stand-in."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from cfaudit_export import Batch
from cfaudit_export.testing.sink_contract import SinkContract, SinkTarget


def target_of(standin: Any, killed_loads: Any, *, merge: bool = False) -> SinkTarget:
    def killed_at(step: int, batch: Batch) -> None:
        killed_loads.at_step(batch, standin, step, merge=merge)

    return SinkTarget(
        new_sink=lambda: standin.sink(merge=merge),
        stored=standin.events,
        interrupted_loads=tuple(partial(killed_at, step) for step in range(30, 150, 50)),
    )


class TestAppending(SinkContract):
    many = 5_000

    @pytest.fixture
    def target(self, standin: Any, killed_loads: Any) -> SinkTarget:
        return target_of(standin, killed_loads)


class TestMerging(SinkContract):
    many = 2_000

    @pytest.fixture
    def target(self, standin: Any, killed_loads: Any) -> SinkTarget:
        return target_of(standin, killed_loads, merge=True)


@pytest.mark.soak  # the stand-in, too, reads every event
class TestAppendingMuch(SinkContract):
    @pytest.fixture
    def target(self, standin: Any, killed_loads: Any) -> SinkTarget:
        return target_of(standin, killed_loads)
