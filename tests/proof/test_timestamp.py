"""Timestamps: of an authority that is openssl, believed by its certificate, and by no other."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.app.stamp import ask_timestamp
from cfaudit_export.errors import SettingsError, TryAgainError
from cfaudit_export.proof.timestamp import load_authorities, require_answer, stamped_at, timestamp_query

DOCUMENT = b"a manifest"
DIGEST = hashlib.sha256(DOCUMENT).hexdigest()


def test_a_document_is_stamped_and_the_stamp_verified(authority: Any) -> None:
    answer = ask_timestamp(authority.url, DOCUMENT)
    at = stamped_at(answer, DIGEST, load_authorities([authority.root]))
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=5)


def test_openssl_verifies_what_is_kept(authority: Any, tmp_path: Path) -> None:
    (tmp_path / "00000001.json").write_bytes(DOCUMENT)
    (tmp_path / "00000001.json.tsr").write_bytes(ask_timestamp(authority.url, DOCUMENT))
    words = ["openssl", "ts", "-verify", "-in", "00000001.json.tsr", "-data", "00000001.json"]
    words += ["-CAfile", str(authority.root)]
    done = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Verification: OK" in done.stdout + done.stderr


def test_a_stamp_of_another_document_or_of_another_authority_is_refused(
    authority: Any, new_certificates: Callable[[Path, str], None], tmp_path: Path
) -> None:
    answer = ask_timestamp(authority.url, DOCUMENT)
    with pytest.raises(ValueError, match="it is of another document"):
        stamped_at(answer, "0" * 64, load_authorities([authority.root]))
    other = tmp_path / "other"
    other.mkdir()
    authority.folder.joinpath("root.pem").rename(other / "true.pem")
    new_certificates(other, "others")
    with pytest.raises(ValueError, match="certificate"):
        stamped_at(answer, DIGEST, load_authorities([other / "root.pem"]))
    assert stamped_at(answer, DIGEST, load_authorities([other / "root.pem", other / "true.pem"]))


@pytest.mark.parametrize("answer", [b"", b"\x30\x03\x02\x01\x00", b"<html>", bytes(range(256))])
def test_what_is_no_stamp_is_refused(authority: Any, answer: bytes) -> None:
    with pytest.raises(ValueError, match="it is no timestamp"):
        stamped_at(answer, DIGEST, load_authorities([authority.root]))
    authority.replies.append((200, answer))
    with pytest.raises(TryAgainError, match="gives no timestamp: it is no timestamp"):
        ask_timestamp(authority.url, DOCUMENT)


def test_an_answer_to_another_request_is_refused(authority: Any) -> None:
    answer = ask_timestamp(authority.url, DOCUMENT)
    with pytest.raises(ValueError, match="it answers another request"):
        require_answer(answer, timestamp_query(DOCUMENT), DOCUMENT)
    authority.replies.append((200, answer))
    with pytest.raises(TryAgainError, match="it answers another request"):
        ask_timestamp(authority.url, DOCUMENT)


def test_an_authority_that_refuses_or_is_away_is_tried_again_later(authority: Any) -> None:
    authority.replies.append((503, b""))
    with pytest.raises(TryAgainError, match="answers with status 503"):
        ask_timestamp(authority.url, DOCUMENT)
    with pytest.raises(TryAgainError, match="cannot be reached"):
        ask_timestamp("http://127.0.0.1:1/tsa", DOCUMENT)


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("x")
    with pytest.raises(SettingsError, match="holds no certificate"):
        load_authorities([tmp_path / "none"])
    with pytest.raises(SettingsError, match="cannot be read: no such file"):
        load_authorities([tmp_path / "gone"])
