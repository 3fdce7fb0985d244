"""What tests steer and look at: `/standin/...`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs

import pyarrow as pa
from faults import Faults
from state import TABLE_KEYS, State

if TYPE_CHECKING:
    from __main__ import Handler

_TIMES = ("event_time", "ingested_at")


def answer(handler: Handler, url: SplitResult, body: bytes) -> None:
    """Do what a test asks; every answer is JSON but the rows, which are an Arrow stream."""
    asked = json.loads(body) if body else {}
    what = url.path.removeprefix("/standin/")
    state, faults = handler.state, handler.faults
    if what == "held":
        handler.send_object(200, faults.held.wait(30))
    elif what == "idle":
        handler.send_object(200, faults.idle())
    elif what == "rows":
        with state.lock:
            handler.send_bytes(200, _rows(state, parse_qs(url.query)["table"][0]), {})
    elif what == "look":
        with state.lock:
            seen = {"tables": state.tables, "jobs": state.jobs, "requests": handler.log}
            handler.send_object(200, seen | {"needed": sorted(state.needed)})
    elif what == "reset":
        with state.lock:
            state.store.close()
            type(handler).state, type(handler).faults, type(handler).log = State(), Faults(), []
        handler.send_object(200, {})
    elif what == "restore":
        with state.lock:
            _restore(state, asked)
        handler.send_object(200, {})
    elif what == "heal":
        faults.requests.clear()
        handler.send_object(200, {})
    else:
        with state.lock:
            _steer(state, faults, what, asked)
        handler.send_object(200, {})


def _steer(state: State, faults: Faults, what: str, asked: dict[str, Any]) -> None:
    match what:
        case "dataset":
            state.datasets[asked["name"]] = asked["location"]
            state.expiry_days[asked["name"]] = asked.get("partition_expiry_days", 0)
        case "table":
            project, dataset, table = asked["name"].split(".")
            reference = {"projectId": project, "datasetId": dataset, "tableId": table}
            state.create_table(asked["name"], {"tableReference": reference, **asked["resource"]})
            state.tables[asked["name"]] |= asked.get("override", {})
        case "drop":
            state.delete_table(asked["name"])
        case "settings":
            for name, value in asked.items():
                setattr(state, name, set(value) if name == "denied" else value)
        case "fault":
            faults.add(asked)
        case "release":
            faults.released.set()
        case "forget-jobs":
            state.jobs.clear()
        case "forget-needs":
            state.needed.clear()
        case _:
            raise ValueError(f"the stand-in cannot do '{what}'")


def _restore(state: State, asked: dict[str, Any]) -> None:
    """Have what an earlier stand-in had."""
    for name, table in asked["tables"].items():
        state.create_table(name, {key: table[key] for key in table.keys() & TABLE_KEYS})
        state.tables[name] = table
        state.append(name, [_typed(row) for row in asked["rows"]])
    state.jobs |= asked["jobs"]
    state.polls |= dict.fromkeys(asked["jobs"], 0)


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of an earlier stand-in, whose times became texts."""
    return {name: datetime.fromisoformat(value) if name in _TIMES and value else value for name, value in row.items()}


def _rows(state: State, name: str) -> bytes:
    if name not in state.tables:
        return b""
    table = state.store.table(f'"{name}"').to_arrow_table()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
