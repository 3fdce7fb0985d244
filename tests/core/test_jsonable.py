from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Gap, RunReport, SinkReport, Stream, Window
from cfaudit_export.errors import ExitCode

AT = datetime(2026, 11, 24, 2, 55, 0, 123_456, tzinfo=UTC)


def test_a_report_is_made_of_what_json_knows() -> None:
    stream = Stream("a" * 32, "auditlogs", (("action_type", "create"),))
    window = Window(AT.replace(microsecond=0), AT.replace(microsecond=1000))
    report = RunReport(
        stream,
        AT,
        AT,
        window,
        sinks=(SinkReport("parquet", locations=("out/a",), exit_code=ExitCode.SINK_DOWN),),
        gaps=(Gap(window, 1, "odd\u202e\x1b", AT, AT),),
        exit_code=ExitCode.INCOMPLETE,
        extra={"path": Path("out"), "took": timedelta(seconds=1.5), "names": frozenset({"b", "a"})},
    )
    text = as_json([report])
    assert text.isascii()
    [plain] = json.loads(text)
    assert plain["stream"] == {
        "id": stream.id,
        "account_id": "a" * 32,
        "source": "auditlogs",
        "filters": {"action_type": "create"},
        "slice": None,
    }
    assert plain["started_at"] == "2026-11-24T02:55:00.123Z"
    assert plain["wanted"] == {"since": "2026-11-24T02:55:00.000Z", "before": "2026-11-24T02:55:00.001Z"}
    assert (plain["exit_code"], plain["sinks"][0]["exit_code"]) == (65, 69)
    assert plain["gaps"][0]["reason"] == "odd\u202e\x1b"
    assert plain["extra"] == {"path": "out", "took": 1.5, "names": ["a", "b"]}
