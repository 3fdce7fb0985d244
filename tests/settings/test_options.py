from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.core.times import parse_duration
from cfaudit_export.pipeline.plan import FIRST_RUN
from cfaudit_export.settings import OPTIONS, Settings

BY_KEY = {option.key: option for option in OPTIONS}


def test_keys_variables_and_flags_are_unique() -> None:
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(BY_KEY) == len(OPTIONS) == len({option.variable for option in OPTIONS})
    assert len(flags) == len(set(flags))


def test_every_option_ends_in_the_settings() -> None:
    attributes = {field.name for field in fields(Settings)}
    for option in OPTIONS:
        root = "sources" if option.source_key else option.key.partition(".")[0]
        assert root in attributes, option.key


def test_every_filter_of_the_tool_is_an_option() -> None:
    assert {key.removeprefix("filters.") for key in BY_KEY if key.startswith("filters.")} == set(AUDITLOGS_FILTERS)
    for short, name in (
        ("--result", "action_result"),
        ("--context", "actor_context"),
        ("--product", "resource_product"),
    ):
        assert short in BY_KEY[f"filters.{name}"].flags


def test_every_option_has_help_and_a_flag_that_shows_no_secret() -> None:
    assert all(option.help for option in OPTIONS)
    about_servers = {"oauth_resource", "oauth_registration_scope", "oauth_pkce", "oauth_origins"}
    about_machines = {"sql_memory_mb", "sql_threads", "sql_spill_mb"}
    secret = {"token_file", "token_keyring", "ping_url"}
    rooms = ("alert.", "integrity.", "rules.")
    about_rooms = {one.key for one in OPTIONS if one.key.startswith(rooms)}
    about_others = {"identity.key_file", "budget.store", "budget.name", "budget.fallback_workers"}
    without = secret | about_servers | about_machines | about_rooms | about_others
    assert {one.key for one in OPTIONS if not one.flags} == without


def test_the_documented_defaults_are_the_real_ones() -> None:
    defaults = {field.name: field.default for field in fields(Settings)}
    for key in ("settle_lag", "rescan"):
        assert parse_duration(BY_KEY[key].default) == defaults[key]
    assert BY_KEY["source"].default == defaults["source"]
    assert parse_duration("30d") == FIRST_RUN
    assert timedelta(days=30) == FIRST_RUN


def test_a_nested_key_has_two_underscores_in_its_variable() -> None:
    assert BY_KEY["filters.actor_email"].variable == "CFAUDIT_FILTERS__ACTOR_EMAIL"
    assert BY_KEY["state_dir"].variable == "CFAUDIT_STATE_DIR"
