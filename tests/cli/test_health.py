from __future__ import annotations

from pathlib import Path
from typing import Any

from cfaudit_export.app.health import Level
from cfaudit_export.cli.status import status
from cfaudit_sandbox import Sandbox


def test_a_fresh_export_is_well_and_an_old_one_is_not(cli: Any, target: tuple[str, ...], sandbox: Sandbox) -> None:
    assert cli("run", *target, "--until", "3h").code == 0
    result = cli("status", "--check", "--state-dir", "state", "--max-lag", "4h")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("OK - 1 stream, at most 3h")
    assert result.out.count("\n") == 1
    late = cli("status", "--check", "--state-dir", "state")
    assert late.code == 2
    account = sandbox.world.accounts[0].id
    assert late.out.startswith(f"CRITICAL - account {account}: sink parquet is 3h")


def test_what_was_asked_for_and_is_not_there_is_critical(cli: Any, target: tuple[str, ...], sandbox: Sandbox) -> None:
    assert cli("status", "--check", "--state-dir", "state").out.startswith("CRITICAL - nothing exported yet")
    assert cli("run", *target).code == 0
    second = sandbox.world.accounts[1].id
    result = cli("status", "--check", "--state-dir", "state", "--account", second)
    assert (result.code, f"account {second} was never exported" in result.out) == (2, True)


def test_a_damaged_checkpoint_is_unknown(cli: Any, target: tuple[str, ...], place: Path) -> None:
    assert cli("run", *target).code == 0
    (place / "state" / "checkpoints" / f"{'0' * 16}.json").write_text("{")
    result = cli("status", "--check", "--state-dir", "state")
    assert result.code == 3
    assert result.out.startswith("UNKNOWN - ")
    assert result.out.count("\n") == 1


def test_a_lag_that_is_none_is_refused(cli: Any) -> None:
    assert cli("status", "--check", "--max-lag", "soon").code == 2


def test_the_help_says_what_each_code_means() -> None:
    for level in Level:
        assert f"{level.value}  {level.name}: {level.meaning}" in status.epilog
