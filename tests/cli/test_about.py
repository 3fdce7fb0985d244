from __future__ import annotations

import json
from typing import Any

import pytest


def test_plugins_lists_what_is_installed_and_what_is_broken(process: Any, plugin: Any) -> None:
    plugin("brokenplug", "raise ImportError('no such thing\\x1b[2J')")
    result = process("plugins")
    assert result.code == 0
    assert "parquet" in result.out
    assert "auditlogs" in result.out
    assert "broken: 'brokenplug' of brokenplug 1.0: ImportError: no such thing\\x1b[2J" in result.out
    listed = json.loads(process("plugins", "--json").out)
    assert {"kind": "sink", "name": "parquet"}.items() <= next(
        one for one in listed["offers"] if one["name"] == "parquet"
    ).items()
    assert listed["broken"][0]["distribution"] == "brokenplug"


def test_two_plugins_of_one_name_are_a_conflict(process: Any, plugin: Any) -> None:
    plugin(
        "rival",
        "from dataclasses import dataclass\n"
        "from cfaudit_export import SinkPlugin, hookimpl\n"
        "@dataclass(frozen=True)\n"
        "class Config:\n"
        "    path: str = ''\n"
        "@hookimpl\n"
        "def cfaudit_sinks():\n"
        "    yield SinkPlugin('parquet', Config, Config, 'a rival')\n",
    )
    result = process("plugins")
    assert "conflict: sink 'parquet' is offered by" in result.out
    refused = process("--sink", "parquet", "-o", "sinks.parquet.path=out")
    assert refused.code == 78
    assert "offered more than once" in refused.err


def test_a_plugin_that_is_switched_off_is_shown_as_such(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFAUDIT_DISABLED_PLUGINS", "parquet")
    result = cli("plugins")
    assert "switched off: 'parquet' of cfaudit-export" in result.out
    assert json.loads(cli("plugins", "--json").out)["disabled"][0]["entry_point"] == "parquet"


@pytest.mark.parametrize("form", ["table", "arrow", "bigquery", "json"])
def test_the_schema_names_every_column_in_every_form(cli: Any, form: str) -> None:
    from cfaudit_export.schema import schema

    shown = cli("schema", "--format", form)
    assert shown.code == 0
    assert not shown.out.endswith("\n\n")
    for name in schema().names:
        assert name in shown.out
    if form in ("bigquery", "json"):
        json.loads(shown.out)
