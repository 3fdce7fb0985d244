"""A server without a habit, of every nature: everything arrives, once, with few calls."""

from __future__ import annotations

from typing import Any

import pytest

from bad_habits import judge, machine, most_calls, world

NATURES: list[dict[str, Any]] = [
    {},
    {"since_includes": False, "before_includes": True},
    {"cursors": "offset", "ends": "empty"},
    {"ends": "extra", "cap": 7},
    {"eras": "legacy"},
    {"eras": "legacy", "plain": True, "sessions": True},
    {"counts": False},
]


@pytest.mark.parametrize("source", ["auditlogs", "codemode"])
@pytest.mark.parametrize("nature", NATURES, ids=str)
def test_everything_arrives_once(source: Any, nature: dict[str, Any]) -> None:
    truth = world(range(0, 4_000, 20), odd=[30, 99], **nature)
    with machine(truth, source=source) as one:
        report = one.run()
        judge(one, report)
        assert report.exit_code == (65 if source == "auditlogs" else 0), report.error
        assert one.missing().total() == (2 if source == "auditlogs" else 0)
        assert one.server.calls <= most_calls(truth, 20, 2)
        judge(one, one.run())
