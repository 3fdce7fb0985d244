from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from cfaudit_export.auth.token import NoCredential, TokenCredential, read_token_file
from cfaudit_export.errors import SettingsError


@pytest.mark.parametrize(
    ("token", "kind"),
    [("cfut_abcdefgh", "user token"), ("cfat_abcdefgh", "account token"), ("abcdefgh0123", "token")],
)
def test_the_prefix_tells_the_kind(token: str, kind: str) -> None:
    assert TokenCredential(token).kind == kind


def test_a_token_is_sent_as_it_is_and_never_renewed() -> None:
    credential = TokenCredential("cfut_abcdefgh")
    assert asyncio.run(credential.token()) == "cfut_abcdefgh"
    assert asyncio.run(credential.renew("cfut_abcdefgh")) is False


def test_a_token_is_not_in_the_repr() -> None:
    assert "abcdefgh" not in repr(TokenCredential("cfut_abcdefgh"))


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "is empty"),
        ("Bearer cfut_abcdefgh", "without 'Bearer'"),
        ("cfut_abc defgh", "white space"),
        ("cfut_abcdefgh\n", "white space or a line end"),
        ("'cfut_abcdefgh'", "with its quotes"),
        ("cfut_abc\u2019", "no API token has"),
        ("cfut_abc\x00", "no API token has"),
        ("user:grant:secret", "OAuth access token"),
    ],
)
def test_what_cannot_be_a_token_is_refused_without_being_shown(token: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as raised:
        TokenCredential(token, where="SOME_VARIABLE")
    assert "SOME_VARIABLE" in str(raised.value)
    assert "abc" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_token_file_loses_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("cfut_abcdefgh\r\n")
    file.chmod(0o600)
    assert read_token_file(file) == "cfut_abcdefgh"


def test_a_token_file_that_others_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text("cfut_abcdefgh")
    file.chmod(0o600)
    with caplog.at_level(logging.WARNING):
        read_token_file(file)
        assert not caplog.records
        file.chmod(0o644)
        read_token_file(file)
    assert [record.message for record in caplog.records] == ["token file can be read by others"]


def test_a_token_file_that_is_ours_by_its_group_is_none_of_ours_to_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("cfut_abcdefgh")
    file.chmod(0o440)
    with caplog.at_level(logging.WARNING):
        read_token_file(file)
        assert len(caplog.records) == 1
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
        read_token_file(file)
        assert len(caplog.records) == 1
        file.chmod(0o444)
        read_token_file(file)
        assert len(caplog.records) == 2


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"token_file '.*missing' cannot be read: No such file"):
        read_token_file(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="binary data"):
        read_token_file(tmp_path / "binary")


def test_no_credential_sends_nothing() -> None:
    assert asyncio.run(NoCredential().token()) is None
    assert asyncio.run(NoCredential().renew("x")) is False
