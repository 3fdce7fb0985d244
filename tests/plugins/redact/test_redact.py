"""The transform: rules upon tables, and settings that are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import SettingsError
from cfaudit_export.pipeline.transform import NamedTransform, transformed
from cfaudit_export.plugin.config import to_config
from cfaudit_redact.config import PRESETS, RedactConfig
from cfaudit_redact.redact import Redact

from .conftest import SECRETS, START, keys_text

Build = Callable[..., Redact]
Events = Callable[..., Any]
ADA = {"actor_email": "Ada@example.com", "event_raw": {"actor": {"email": "ada@example.com", "id": "7"}, "n": 1.50}}


def test_one_person_has_one_pseudonym_in_every_column(redact: Build, events: Events) -> None:
    body = {"members": [{"user": {"Email": "ADA@example.com"}}], "note": "ask ada@example.com"}
    table = redact(preset="pseudonyms")(
        events(ADA | {"resource_request": body, "account_name": "ada@example.com's Account"})
    )
    [row] = table.to_pylist()
    name = row["actor_email"]
    assert name.startswith("p1_")
    assert json.loads(row["event_raw"]) == {
        "actor": {"email": name, "id": json.loads(row["event_raw"])["actor"]["id"]},
        "n": 1.5,
    }
    assert json.loads(row["resource_request"]) == {"members": [{"user": {"Email": name}}], "note": f"ask {name}"}
    assert row["account_name"] == f"{name}'s Account"


def test_each_event_has_the_key_of_its_own_time(redact: Build, events: Events) -> None:
    change = START + timedelta(hours=2)
    keys = keys_text((1, "2020-01-01T00:00:00Z", SECRETS[0]), (2, f"{change:%Y-%m-%dT%H:%M:%SZ}", SECRETS[1]))
    made = redact(keys, preset="pseudonyms")
    together = made(events(*[ADA] * 4)).to_pylist()
    assert [row["actor_email"][:3] for row in together] == ["p1_", "p1_", "p2_", "p2_"]
    assert [json.loads(row["event_raw"])["actor"]["email"][:3] for row in together] == ["p1_", "p1_", "p2_", "p2_"]
    table = events(*[ADA] * 4)
    alone = [redact(keys, preset="pseudonyms")(table.slice(at, 1)).to_pylist()[0] for at in range(4)]
    assert alone == together


def test_events_without_a_key_end_the_run(redact: Build, events: Events) -> None:
    made = redact(keys_text((1, "2026-11-01T01:00:00Z", SECRETS[0])), preset="pseudonyms")
    with pytest.raises(SettingsError, match="no key for 2026-11-01"):
        made(events(ADA))


def test_the_first_action_that_names_a_value_is_done_and_no_other(redact: Build, events: Events) -> None:
    made = redact(
        drop=["event_raw"], encrypt=["actor_email"], pseudonym=["actor_email"], scrub=["email"], email_domain=True
    )
    [row] = made(events(ADA)).to_pylist()
    assert row["actor_email"].startswith("e1_")
    assert row["event_raw"] is None
    assert made.reveal(row["actor_email"]) == "Ada@example.com"


def test_of_a_kept_column_nothing_else_stays(redact: Build, events: Events) -> None:
    made = redact(keep=['resource_response: id, result.id, "a,b"'])
    body = {"id": 1, "result": {"id": 2, "name": "x"}, "a,b": 3, "secret": "s"}
    rows = made(
        events({"resource_response": body}, {"resource_response": {"secret": "s"}}, {"resource_response": "[1"})
    )
    assert rows["resource_response"].to_pylist() == ['{"id":1,"result":{"id":2},"a,b":3}', None, None]
    assert [facts["count"] for _, facts in made.notes()] == [1]


def test_presets_do_what_they_say(redact: Build, events: Events) -> None:
    row = ADA | {"actor_ip_address": "203.0.113.77", "raw_user_agent": "x", "resource_request": {"password": "p"}}
    [minimal] = redact(preset="minimal")(events(row)).to_pylist()
    dropped = ("resource_request", "event_raw", "actor_ip_address", "raw_user_agent")
    assert [minimal[name] for name in dropped] == [None] * 4
    assert minimal["actor_email"] == "Ada@example.com"
    [secrets] = redact(preset="no-secrets")(events(row)).to_pylist()
    assert secrets["resource_request"] == '{"password":"[removed]"}'
    assert secrets["actor_email"] == "Ada@example.com"
    [cut] = redact(preset="pseudonyms")(events(row)).to_pylist()
    assert cut["actor_ip_address"] == "203.0.113.0"


def test_rows_that_nothing_is_hidden_in_keep_their_bytes(redact: Build, events: Events) -> None:
    raw = '{ "a" : 1.10, "other": "\\u00e4" }'
    table = events({"event_raw": raw, "resource_request": raw, "zone_name": "example.com"})
    assert redact(preset="pseudonyms")(table).equals(table)
    assert (
        redact(preset="no-secrets")(events({"event_raw": '{ "a" : 1 }'})).column("event_raw")[0].as_py()
        == '{ "a" : 1 }'
    )


def test_a_text_that_cannot_be_read_is_dropped_not_passed_on(redact: Build, events: Events) -> None:
    made = redact(preset="pseudonyms")
    table = made(
        events(
            *({"event_raw": text} for text in ('{"actor":', '["ada@example.com"', '{"actor":{"email":"\\ud800a@b.c"}}'))
        )
    )
    first, second, third = table["event_raw"].to_pylist()
    assert (first, second) == (None, None)
    assert "a@b.c" not in third
    assert dict(made.notes())["values that could not be read were dropped"] == {"column": "event_raw", "count": 2}


def test_a_rule_that_never_matched_is_told_and_one_of_a_preset_is_not(redact: Build, events: Events) -> None:
    made = redact(preset="pseudonyms", drop=["event_raw:actor.emial", "zone_name"])
    assert list(made.notes()) == []  # nothing was read yet
    made(events(ADA | {"zone_name": "z"}))
    [(said, facts)] = made.notes()
    assert said == "a rule matched nothing; is there a typo in it?"
    assert facts == {"rule": "event_raw:actor.emial", "count": 0}


def test_it_changes_no_identity_and_no_schema(redact: Build, events: Events) -> None:
    table = events(*[ADA] * 3, {})
    done = transformed(table, [NamedTransform("redact", redact(preset="pseudonyms", scrub=["secret"]))])
    assert done.schema == table.schema
    assert done.num_rows == 4


def test_it_says_which_columns_the_identity_would_give_away(keys_file: Callable[..., Path]) -> None:
    def hides(**settings: Any) -> frozenset[str]:
        return Redact(RedactConfig(keys_file=keys_file(), **settings)).hides

    assert "actor_email" in hides(preset="pseudonyms")
    assert "actor_email" in hides(scrub=("email",))
    assert hides(preset="pseudonyms", allow_guessable=True) == frozenset()
    assert not hides(preset="no-secrets") & {"actor_email", "actor_token_name"}


def test_whose_a_pseudonym_is_can_be_tried_out(redact: Build, events: Events) -> None:
    made = redact(preset="pseudonyms")
    [row] = made(events(ADA | {"actor_id": "7"})).to_pylist()
    assert row["actor_email"] in list(made.pseudonyms("ada@EXAMPLE.com"))
    assert row["actor_id"] in list(made.pseudonyms("7"))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "there is no rule; name a preset"),
        ({"preset": "pseudonyms"}, "need keys; name their file in keys_file"),
        ({"preset": "pseudonym"}, "'transforms.redact.preset' must be one of minimal, no-secrets, pseudonyms"),
        ({"dropp": ["zone_id"]}, "unknown key 'transforms.redact.dropp'; did you mean"),
        ({"scrub": ["emails"]}, "must be one of email, secret"),
    ],
)
def test_settings_that_do_not_fit_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        to_config(RedactConfig, table, "transforms.redact")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            {"drop": ["actor_emial"]},
            "'transforms.redact.drop': unknown column 'actor_emial'; did you mean 'actor_email'?",
        ),
        ({"drop": ["event_id"]}, "'event_id' says which event a row is"),
        ({"drop": ["zone_id:a"]}, "'zone_id' holds no JSON"),
        ({"pseudonym": ["event_raw"]}, "'event_raw' needs a path"),
        ({"pseudonym": ["raw_status_code"]}, "'raw_status_code' holds a number; it can be dropped"),
        ({"keep": ["event_raw"]}, "'event_raw' needs paths"),
        ({"drop": ["event_raw:a..b"]}, "path 'a..b' has no name at character 3"),
        ({"drop": ["event_raw:"]}, "path '' has no name at character 1"),
        (
            {"drop": ["actor_email"]},
            "but event_raw still shows it; name 'event_raw:actor.email' too",
        ),
        ({"cut_ip": ["actor_ip_address"]}, "hides actor_ip_address, but event_raw still shows it"),
    ],
)
def test_rules_that_can_hide_nothing_are_refused_by_name(redact: Build, rules: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        redact(**rules)
    assert said in str(refused.value)


def test_the_rules_of_presets_are_sound(redact: Build) -> None:
    for preset in PRESETS:
        redact(preset=preset)
    assert {field.name for field in dataclasses.fields(RedactConfig)} > {"preset", "keys_file"}
