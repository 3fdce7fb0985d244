"""The promises that every sink keeps, against the stand-in."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import Any

import pytest

from cfaudit_export import Batch
from cfaudit_export.testing.sink_contract import SinkContract, SinkTarget

REQUESTS = (("PUT", "/upload/"), ("GET", "/jobs/"), ("GET", "/tables/"), ("POST", "/upload/"), ("", "."))
PAGES: tuple[dict[str, Any], ...] = (
    *({"action": "page", "status": 200, "body": body} for body in ("", "<html>", "{}", '{"kind": "strange"}', "[]")),
    *({"action": "page", "status": status} for status in (404, 404, 404, 404, 404, 403, 401, 302, 401, 403)),
    *({"action": action} for action in ("garble", "empty")),
)


def target_of(standin: Any, killed_loads: Any, *, merge: bool = False) -> SinkTarget:
    def killed_at(step: int, batch: Batch) -> None:
        killed_loads.at_step(batch, standin, step, merge=merge)

    def honest() -> Any:
        standin.say("heal")
        return standin.sink(merge=merge)

    def behind(method: str, path: str, fault: dict[str, Any]) -> Any:
        standin.say("heal")
        standin.fault(method, path, times=1_000, **fault)
        return standin.sink(merge=merge, retry_seconds=0)

    return SinkTarget(
        new_sink=honest,
        stored=standin.events,
        impostors=tuple(
            partial(behind, method, path, fault) for (method, path), fault in zip(cycle(REQUESTS), PAGES, strict=False)
        ),
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
