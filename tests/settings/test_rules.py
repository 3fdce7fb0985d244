"""`[rules]` in the settings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.errors import SettingsError
from cfaudit_export.settings import Given, Settings, load_settings
from cfaudit_export.settings.rules import Mute

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def load(toml: str, folder: Path) -> Settings:
    (folder / "cfaudit.toml").write_text(toml)
    return load_settings(Given(), environ={}, now=NOW, directory=folder)


def test_rules_are_set_in_a_table(tmp_path: Path) -> None:
    found = load(
        """
        [rules]
        folder = "rules"
        disable = ["first-product"]
        severity = {member-added = "high"}
        known_addresses = ["203.0.113.0/24", "2001:db8::1"]
        known_tokens = ["terraform"]
        mute = [{rule = "token-made", key = "ci@example.com", until = 2026-12-24}, {rule = "out-of-band"}]
        """,
        tmp_path,
    ).rules
    assert found.folder == Path("rules")
    assert found.disable == ("first-product",)
    assert found.severity == {"member-added": "high"}
    assert found.known_addresses == ("203.0.113.0/24", "2001:db8::1")
    assert found.known_tokens == ("terraform",)
    assert found.mute == (Mute("token-made", "ci@example.com", datetime(2026, 12, 24, tzinfo=UTC)), Mute("out-of-band"))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("severity = 'high'", "expected a table of rules"),
        ("severity = {x = 'critical'}", "expected one of low, medium, high"),
        ("known_addresses = ['203.0.113.999']", "expected addresses or networks such as"),
        ("mute = ['x']", "expected a list of tables"),
        ("mute = [{key = 'x'}]", "a mute needs the id of its rule"),
        ("mute = [{rule = 'x', till = 2026-12-24}]", "a mute has rule, key and until, not 'till'"),
        ("disabel = ['x']", "unknown key 'rules.disabel'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, toml: str, message: Any) -> None:
    with pytest.raises(SettingsError) as told:
        load(f"[rules]\n{toml}", tmp_path)
    assert message in str(told.value)
