"""Shapes against the schemas of those who define them: every row of an export fits, and a broken one does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import jsonschema_rs
import pyarrow as pa
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.schema import schema
from cfaudit_export.settings import Settings
from cfaudit_export.shapes.ocsf import API, AUTHENTICATION, ENTITY, VERSIONS
from cfaudit_export.shapes.view import view_of

CLASSES = {AUTHENTICATION: "authentication", API: "api_activity", ENTITY: "entity_management"}
Validators = dict[int, Any]


def validators(version: str) -> Validators:
    made = OcsfJsonSchemaEmbedded(get_ocsf_schema(version))
    return {
        number: jsonschema_rs.validator_for(made.get_class_schema(name, profiles=["cloud"]))
        for number, name in CLASSES.items()
    }


def shaped(rows: pa.Table, version: str | None, zone: str = "UTC", shape: str = "ocsf") -> list[dict[str, Any]]:
    with closing(duckdb.connect()) as connection:
        connection.register("audit_events", rows)
        connection.execute(f"SET TimeZone = '{zone}'")
        connection.execute(view_of(shape, version, keyword="CREATE TEMP VIEW"))
        found = connection.execute(f"FROM {shape}_events o SELECT json_strip_nulls(to_json(o))").fetchall()
    return [json.loads(text) for (text,) in found]


def stored(rig: Any) -> pa.Table:
    return pa.Table.from_pylist(rig.rows(), schema=schema())


def faults(events: list[dict[str, Any]], by_class: Validators) -> Counter[str]:
    return Counter(
        f"{event['class_uid']} {'/'.join(map(str, error.instance_path))}: {str(error.message)[:200]}"
        for event in events
        for error in by_class[event["class_uid"]].iter_errors(event)
    )


@pytest.fixture(scope="module")
def by_version() -> dict[str, Validators]:
    return {version: validators(version) for version in VERSIONS}


def run(rig: Any, source: str, root: Path) -> pa.Table:
    urls = {"auditlogs": rig.sandbox.mcp_url, "codemode": rig.sandbox.codemode_url}
    settings = Settings(
        source=source,
        state_dir=root,
        sink=("parquet",),
        sinks={"parquet": {"path": str(rig.root / "out")}},
        sources={name: {"server_url": url, "budget_calls": 0, "retry_seconds": 1.0} for name, url in urls.items()},
        recover={"mode": "all"},
    )
    environ = {"CLOUDFLARE_API_TOKEN": rig.world.tokens["account"]}
    export(compose(settings, load_plugins(environ={}), environ=environ, clock=lambda: rig.now), rig.stream.account_id)
    return stored(rig)


def checked(rig: Any, source: str, root: Path, by_version: dict[str, Validators]) -> Counter[int]:
    rows = run(rig, source, root)
    kinds: Counter[int] = Counter()
    for version, by_class in by_version.items():
        events = shaped(rows, version)
        assert len(events) == sum(row != "shadow" for row in rows["fidelity"].to_pylist())
        assert faults(events, by_class) == Counter()
        kinds.update(event["class_uid"] for event in events)
    return kinds


@pytest.mark.parametrize("source", ["codemode", "auditlogs"])
def test_every_row_fits_the_official_schema(
    rig_of: Callable[..., Any], tmp_path: Path, source: str, by_version: dict[str, Validators]
) -> None:
    rig = rig_of(events=300, poison={"array-response": 2})
    kinds = checked(rig, source, tmp_path / "state", by_version)
    assert kinds.keys() == CLASSES.keys() if source == "codemode" else kinds[ENTITY] > 100


@pytest.mark.soak
@pytest.mark.parametrize("source", ["codemode", "auditlogs"])
@pytest.mark.parametrize("seed", range(1, 21))
def test_every_row_of_every_world_fits_the_official_schema(
    rig_of: Callable[..., Any], tmp_path: Path, source: str, seed: int, by_version: dict[str, Validators]
) -> None:
    checked(rig_of(events=2_000, seed=seed, poison={"all": 5}), source, tmp_path / "state", by_version)


ODD = {
    "event_id": "id", "event_key": "key", "account_id": "0" * 32, "fidelity": "full", "source": "codemode",
    "event_time": 1_790_000_000_123_456, "ingested_at": 1_790_000_100_000_000,
}  # fmt: skip


def odd_rows() -> Iterator[dict[str, Any]]:
    """Yield rows with values that a schema is strict about."""
    yield ODD
    for email in ("root@localhost", "jürgen@example.com", "p1_0123", "a'b@example.com", "", "a b@c.d", "x@y.z"):
        for address in (
            None,
            "",
            "unknown",
            "203.0.113.7",
            "999.1.1.1",
            "2001:db8::1",
            "::",
            "1:2:3:4:5:6:7:8",
            "fe80::1%e",
        ):
            yield {"actor_email": email, "actor_ip_address": address, "action_type": "update"}
    for kind in ("user", "account", "system", "cloudflare_admin", "delegated_service", "other", ""):
        yield {"actor_type": kind}
        yield {"actor_type": kind, "actor_id": "1", "actor_context": "dash"}
    for what in ("create", "view", "update", "delete", "login", "rotate", "", "CREATE"):
        yield {"action_type": what, "action_result": what, "actor_id": "1"}
        yield {"action_type": what, "action_description": "LOGIN", "actor_id": "1", "actor_ip_address": "203.0.113.7"}
    for method in ("PATCH", "get", "BREW", ""):
        for uri in ("/a?b=c", "?b", "", "/a", "/a?"):
            yield {"raw_method": method, "raw_uri": uri, "actor_id": "1", "actor_ip_address": "203.0.113.7"}
            yield {"raw_method": method, "raw_uri": uri}
    yield {"zone_name": "z", "organization_name": "o", "resource_id": "r", "resource_scope": '{"a":1}'}
    yield {"resource_value": "{", "event_raw": "not json", "raw_status_code": 200, "actor_token_id": "t"}


@pytest.mark.parametrize("version", VERSIONS)
def test_odd_values_fit_too(version: str, by_version: dict[str, Validators]) -> None:
    rows = pa.Table.from_pylist([ODD | row for row in odd_rows()], schema=schema())
    events = shaped(rows, version)
    assert faults(events, by_version[version]) == Counter()
    assert len(events) == rows.num_rows
    assert not any('""' in json.dumps(event) or "null" in json.dumps(event) for event in events)
    assert {event["class_uid"] for event in events} == CLASSES.keys()


def test_a_broken_event_does_not_fit(by_version: dict[str, Validators]) -> None:
    """So that the schemas are known to say something."""
    rows = pa.Table.from_pylist([ODD | row for row in odd_rows()], schema=schema())
    for version, by_class in by_version.items():
        for event in shaped(rows, version):
            for name in ("category_uid", "type_uid", "activity_id", "severity_id", "time", "metadata", "cloud"):
                assert faults([{key: value for key, value in event.items() if key != name}], by_class)
            assert faults([event | {"activity_id": 98}], by_class)
            assert faults([event | {"time": "now"}], by_class)
            assert faults([event | {"surprise": 1}], by_class)


def test_the_meaning_of_events_is_that_of_cloudflare_s_documentation() -> None:
    full = ODD | {
        "actor_id": "7", "actor_email": "ada@example.com", "actor_type": "user", "actor_ip_address": "203.0.113.7",
        "actor_context": "api_token", "actor_token_id": "t", "actor_token_name": "ci", "account_name": "Acme",
        "resource_id": "r", "resource_type": "dns_records", "resource_product": "dns", "raw_cf_ray_id": "ray",
        "raw_method": "DELETE", "raw_uri": "/zones/z?force=1", "raw_status_code": 200, "zone_id": "z",
        "action_type": "delete", "action_result": "success", "action_description": "Delete DNS record",
    }  # fmt: skip
    rows = [
        full,
        full | {"action_type": "login", "action_result": "failure"},
        full | {"actor_ip_address": None, "fidelity": "trimmed", "actor_id": None},
        full | {"fidelity": "shadow"},
    ]
    call, login, change = shaped(pa.Table.from_pylist(rows, schema=schema()), "1.8.0", zone="Asia/Tokyo")
    assert (call["class_uid"], call["type_uid"], call["activity_name"]) == (6003, 600304, "Delete")
    assert call["time"] == 1_790_000_000_123
    assert call["metadata"]["original_time"] == "2026-09-21T14:13:20.123456Z"
    assert call["actor"] == {
        "user": {"uid": "7", "name": "ada@example.com", "email_addr": "ada@example.com", "type": "user", "type_id": 1},
        "app_name": "api_token",
    }
    assert call["http_request"] == {
        "http_method": "DELETE", "url": {"path": "/zones/z", "query_string": "force=1"}, "uid": "ray",
    }  # fmt: skip
    assert call["resources"] == [{"uid": "r", "name": "dns_records", "type": "dns_records"}]
    assert call["api"]["token"] == {"uid": "t", "name": "ci"}
    assert call["src_endpoint"] == {"ip": "203.0.113.7"}
    assert (call["status_id"], call["cloud"]["account"]) == (1, {"uid": "0" * 32, "name": "Acme"})
    assert call["unmapped"]["zone_id"] == "z"
    assert (login["class_uid"], login["type_uid"], login["status_id"]) == (3002, 300201, 2)
    assert login["user"]["uid"] == "7"
    assert (change["class_uid"], change["activity_id"]) == (3004, 4)
    assert change["entity"] == {"uid": "r", "name": "dns_records", "type": "dns_records"}
    assert change["actor"]["user"]["name"] == "ada@example.com"


# -- Splunk's CIM -------------------------------------------------------------------------------------

MODELS = json.loads((Path(__file__).parent / "splunk_cim.json").read_text())
# Whether something succeeded is not guessed.
NOT_GUESSED = {"Change": "status", "Authentication": "action"}


def cim_faults(event: dict[str, Any]) -> list[str]:
    name = {"change": "Change", "authentication": "Authentication"}[event["tag"]]
    found = []
    for field, about in MODELS[name].items():
        value = event.get(field)
        if value is None and about["type"] == "required" and NOT_GUESSED[name] != field:
            found.append(f"{name}.{field} is missing")
        if value is not None and value not in about.get("expected_values", [value]):
            found.append(f"{name}.{field} is {value}")
        if field in {"object_id", "object_attrs"} and '"' in str(value):
            found.append(f"{name}.{field} has a quotation mark")
    if name == "Change" and (event.get("status") == "failure") != ("result" in event):
        found.append("a failure has a result, and nothing else")
    return found


def test_every_row_fits_splunk_s_models(rig_of: Callable[..., Any], tmp_path: Path) -> None:
    for source, number in (("codemode", 300), ("auditlogs", 120)):
        rig = rig_of(events=number)
        events = shaped(run(rig, source, tmp_path / source), None, shape="cim")
        assert [fault for event in events for fault in cim_faults(event)] == []
        assert len(events) > number * 0.9
    odd = pa.Table.from_pylist([ODD | row for row in odd_rows()], schema=schema())
    events = shaped(odd, None, shape="cim")
    assert [fault for event in events for fault in cim_faults(event)] == []
    assert {event["tag"] for event in events} == {"change", "authentication"}


def test_an_event_that_lacks_a_field_does_not_fit_splunk_s_models() -> None:
    [event] = shaped(pa.Table.from_pylist([ODD], schema=schema()), None, shape="cim")
    assert cim_faults(event) == []
    for field, about in MODELS["Change"].items():
        if about["type"] == "required" and field != "status":
            assert cim_faults({name: value for name, value in event.items() if name != field})
    assert cim_faults(event | {"status": "maybe"})


def test_both_shapes_say_the_same_of_an_event() -> None:
    rows = pa.Table.from_pylist([ODD | row for row in odd_rows()], schema=schema())
    pairs = zip(shaped(rows, "1.8.0"), shaped(rows, None, shape="cim"), strict=True)
    for ocsf, cim in pairs:
        assert (ocsf["class_uid"] == AUTHENTICATION) == (cim["tag"] == "authentication")
        assert cim["vendor_account"] == ocsf["cloud"]["account"]["uid"]
        user = (ocsf.get("actor") or {}).get("user") or ocsf.get("user") or {}
        assert user.get("uid") == (cim.get("user_id") if user else None)
        outcome = {1: "success", 2: "failure"}.get(ocsf["status_id"])
        assert cim.get("status" if cim["tag"] == "change" else "action") == outcome
        words = {1: "created", 2: "read", 3: "modified", 4: "deleted"}
        if cim["tag"] == "change" and ocsf["activity_id"] in words:
            assert cim["action"] == words[ocsf["activity_id"]]
