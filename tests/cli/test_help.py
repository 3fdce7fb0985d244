from __future__ import annotations

from typing import Any

import pytest

from cfaudit_export.cli.app import COMMANDS
from cfaudit_export.errors import ExitCode
from cfaudit_export.settings import OPTIONS
from cfaudit_export.settings.options import SIGN_IN

HEAVY = {"pyarrow", "mcp", "mcp_types", "boto3", "google", "starlette", "uvicorn", "httpx2", "msgspec", "rich"}


def imported(result: Any) -> set[str]:
    """The top packages that an `-X importtime` process imported."""
    lines = [line for line in result.err.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["status", "--help"]])
def test_help_imports_nothing_heavy(process: Any, arguments: list[str]) -> None:
    result = process(*arguments, flags=("-X", "importtime"))
    assert result.code == 0
    assert "cfaudit_export" in imported(result)
    assert not imported(result) & HEAVY


def test_the_list_of_commands_imports_none_of_them_nor_what_plugins_need(process: Any) -> None:
    result = process("--help", flags=("-X", "importtime"))
    modules = {line.rpartition("|")[2].strip() for line in result.err.splitlines()}
    assert "cfaudit_export.cli.app" in modules
    assert not modules & {f"cfaudit_export.cli.{module}" for module, _, _ in COMMANDS.values()}
    assert not modules & {
        "pluggy",
        "cfaudit_export.core.model",
        "cfaudit_export.settings",
        "cfaudit_export.plugin.registry",
    }


def test_a_listing_of_plugins_imports_no_library_of_theirs(process: Any) -> None:
    result = process("plugins", flags=("-X", "importtime"))
    assert "parquet" in result.out
    assert not imported(result) & {"pyarrow", "mcp", "boto3", "google", "starlette", "httpx2"}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_in_80_columns(cli: Any, command: str) -> None:
    result = cli(*([command] if command else []), "--help")
    assert result.code == 0
    assert result.err == ""
    assert [line for line in result.out.splitlines() if len(line) > 80] == []


def test_the_help_shows_every_command_with_its_summary(cli: Any) -> None:
    shown = cli("--help").out
    for command in COMMANDS:
        summary = cli(command, "--help").out.splitlines()[2].strip().rstrip(".")
        assert f"  {command} " in shown
        assert summary in shown


def test_the_help_of_run_has_every_flag_and_every_exit_code(cli: Any) -> None:
    shown = cli("run", "--help").out
    for option in OPTIONS:
        for name in option.flags if option.panel != SIGN_IN else ():
            assert f"{name} " in shown or f"{name}," in shown
    for code in ExitCode:
        assert f"{int(code):>3}  {code.meaning}" in shown


def test_options_are_shown_in_groups(cli: Any) -> None:
    shown = cli("run", "--help").out
    titles = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [
        "What to export:",
        "Where to:",
        "Only events with:",
        "How:",
        "Watching:",
        "Logs:",
        "Settings:",
        "Options:",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_has_help(cli: Any, command: str) -> None:
    options = cli(command, "--help").out.partition("  -h, --help")[0]
    for at, line in enumerate(lines := options.splitlines()):
        if line.startswith("  -") and "  " not in line.strip():
            assert lines[at + 1].startswith(" " * 20), f"{line} has no help"


def test_h_is_short_for_help(cli: Any) -> None:
    assert cli("-h") == cli("--help")
