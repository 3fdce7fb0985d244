"""Numbers in, a staged batch out: valid batches for tests of sinks.

What is made depends on the arguments alone: the same arguments give the same events and the same `batch_id`, in any
process.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.core.model import Batch, Stream, Window, to_ms
from cfaudit_export.pipeline.stage import Staging
from cfaudit_export.schema import schema

Shape = Literal["six-field", "whole"]
"""How much of an event is known: what the default tool gives, or the whole record."""

ACCOUNT_ID = "0f3c1e5a7b9d2468ace013579bdf2468"

_FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)
_PEOPLE = [None, *(f"user{n}@example.com" for n in range(60))]
_TOKENS = [None, None, None, "terraform-prod", "ci-deploy", "backup"]
_THINGS = [
    ("stream", "live_inputs"),
    ("workers", "scripts.deployments"),
    ("dns", "zones.dns_records"),
    ("access", "apps.policies"),
    ("r2", "buckets"),
    ("members", None),
]
_ACTIONS = ["create", "update", "delete"]
_REQUEST = '{"name":"rule-%04d","paused":false,"modified":"2026-11-01","tags":["a","b"],"note":"%s"}'


def make_batch(
    folder: Path,
    *,
    rows: int = 1_000,
    seed: int = 0,
    days: int = 1,
    shape: Shape = "six-field",
    stream: Stream | None = None,
    changes: Mapping[str, Sequence[Any]] | None = None,
) -> Batch:
    """Stage a batch of made-up events in `folder`, as a run does: an Arrow IPC file, ascending by event time.

    Args:
        folder: where the staged file goes.
        rows: how many events; at least 1.
        seed: another seed makes other events.
        days: over how many UTC days from 2026-11-01 on they are spread evenly; every day has one when rows >= days.
        shape: `six-field` leaves most columns null; `whole` fills them, with 1.3 kB of JSON per event.
        stream: whose events; by default one of a made-up account.
        changes: columns to use instead of the made-up ones, one value per row; ids stay unless they are among them.
    """
    stream = stream or Stream(ACCOUNT_ID, "auditlogs" if shape == "six-field" else "codemode")
    columns = _six_fields(rows, seed, days, stream)
    if shape == "whole":
        columns |= _rest_of_the_record(columns, rows, seed)
    columns |= changes or {}
    fields = schema()
    table = pa.table(
        [_as_column(columns.get(field.name), field.type, rows) for field in fields],
        schema=fields,
    )
    window = Window(_FIRST_DAY, _FIRST_DAY + timedelta(days=days))
    return Staging(folder).stage(table, stream, window, {})


def _six_fields(rows: int, seed: int, days: int, stream: Stream) -> dict[str, Any]:
    times = pa.array(_ascending_us(rows, seed, days), pa.timestamp("us", "UTC"))
    thing = _choose(range(len(_THINGS)), rows, f"thing {seed}")
    action = _choose(_ACTIONS, rows, f"action {seed}")
    product = pa.array([name for name, _ in _THINGS]).take(thing)
    kind = pa.array([kind for _, kind in _THINGS]).take(thing)
    email = _choose(_PEOPLE, rows, f"email {seed}")
    token = _choose(_TOKENS, rows, f"token {seed}")
    description = _join(pc.utf8_capitalize(action), " ", product, " ", pc.fill_null(kind, "member"))
    keys = pa.array(
        [hashlib.sha256(f"{stream.id} {seed} {days} {rows} {row}".encode()).hexdigest()[:32] for row in range(rows)]
    )
    raw = _join(
        _join('{"description":"', description, '","time":"', pc.strftime(times, "%Y-%m-%dT%H:%M:%SZ"), '"'),
        _member("actor_email", email),
        _member("actor_token_name", token),
        _join(',"product":"', product, '"'),
        _member("type", kind),
        "}",
    )
    return {
        "event_id": keys,
        "event_key": keys,
        "event_time": times,
        "account_id": stream.account_id,
        "action_description": description,
        "actor_email": email,
        "actor_token_name": token,
        "resource_type": kind,
        "resource_product": product,
        "fidelity": "trimmed",
        "source": stream.source,
        "ingested_at": _FIRST_DAY + timedelta(days=days, hours=1),
        "event_raw": raw,
    }


def _ascending_us(rows: int, seed: int, days: int) -> list[int]:
    """Make up times, most of them whole milliseconds as in most records, and some finer."""
    chance = random.Random(f"time {seed}")  # noqa: S311 - made-up events need no secrets
    step = timedelta(days=days) / timedelta(milliseconds=1) / rows
    times = [to_ms(_FIRST_DAY) + int((row + chance.random()) * step) for row in range(rows)]
    return [1_000 * time + (row % 7 == 3) * (row % 1_000) for row, time in enumerate(times)]


def _rest_of_the_record(columns: Mapping[str, Any], rows: int, seed: int) -> dict[str, Any]:
    ids = pc.binary_join_element_wise("0190", pc.utf8_slice_codeunits(columns["event_key"], 4), "")
    request = _choose([_REQUEST % (n, "x" * (n % 200)) for n in range(500)], rows, f"request {seed}")
    response = _choose(
        [f'{{"success":true,"result":{_REQUEST % (n, "y" * 250)}}}' for n in range(500)], rows, f"r {seed}"
    )
    uri = _join("/client/v4/accounts/", columns["account_id"], "/", columns["resource_product"])
    raw = _join('{"id":"', ids, '","request":', request, ',"response":', response, ',"six":', columns["event_raw"], "}")
    return {
        "event_id": ids,
        "account_name": "Example Ltd",
        "action_type": _choose(_ACTIONS, rows, f"action {seed}"),
        "action_result": _choose(["success", "success", "failure"], rows, f"result {seed}"),
        "actor_id": _choose([f"{n:032x}" for n in range(60)], rows, f"email {seed}"),
        "actor_type": _choose(["user", "account", "system"], rows, f"actor {seed}"),
        "actor_context": _choose(["dash", "api_key", "api_token", "oauth"], rows, f"context {seed}"),
        "actor_ip_address": _choose([f"203.0.113.{n}" for n in range(200)], rows, f"ip {seed}"),
        "actor_token_id": _choose([f"{n:032x}" for n in range(6)], rows, f"token {seed}"),
        "resource_id": _join("rule-", pc.utf8_slice_codeunits(columns["event_key"], 0, 12)),
        "resource_scope": _choose(["accounts", "zones", "user"], rows, f"scope {seed}"),
        "resource_request": request,
        "resource_response": response,
        "resource_value": _choose(["true", "[1,2]", '{"to":"on"}'], rows, f"value {seed}"),
        "raw_cf_ray_id": pc.utf8_slice_codeunits(columns["event_key"], 8, 24),
        "raw_method": _choose(["POST", "PUT", "DELETE", "PATCH"], rows, f"method {seed}"),
        "raw_uri": uri,
        "raw_user_agent": _choose([f"curl/8.{n}" for n in range(20)], rows, f"agent {seed}"),
        "raw_status_code": _choose([200, 201, 403], rows, f"status {seed}"),
        "zone_id": _choose([f"{n:032x}" for n in range(20)], rows, f"zone {seed}"),
        "zone_name": _choose([f"zone{n}.example" for n in range(20)], rows, f"zone {seed}"),
        "organization_id": "aa" * 16,
        "organization_name": "Example Group",
        "fidelity": "full",
        "event_raw": raw,
    }


def _choose(pool: Sequence[Any], rows: int, seed: str) -> pa.Array:
    return pa.array(pool).take(pa.array(random.Random(seed).choices(range(len(pool)), k=rows)))  # noqa: S311 - as above


def _join(*texts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*texts, "")


def _member(name: str, texts: pa.Array) -> pa.Array:
    return pc.fill_null(_join(f',"{name}":"', texts, '"'), "")


def _as_column(values: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.cast(kind)
    if isinstance(values, Sequence) and not isinstance(values, str):
        return pa.array(values, kind)
    return pa.repeat(pa.scalar(values, kind), rows)
