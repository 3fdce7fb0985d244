"""Keys in files: private, never overwritten, and read by openssl as by us."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from cfaudit_export.errors import SettingsError
from cfaudit_export.proof.keys import load_key, load_public_key, new_key, parse_public_key, write_key

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


def openssl(*words: object) -> bytes:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60).stdout


def test_a_key_that_was_written_is_read_again(tmp_path: Path) -> None:
    key, path = new_key(), tmp_path / "signing.pem"
    write_key(key, path)
    assert load_key(path) == key
    assert load_key(path).sign(b"x") == key.sign(b"x")
    assert parse_public_key(key.public.pem.encode()) == key.public
    assert key.public.is_signature(key.sign(b"x"), b"x")
    assert not key.public.is_signature(key.sign(b"x"), b"y")
    assert not key.public.is_signature(b"short", b"x")


def test_only_its_owner_may_read_the_file_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_key(new_key(), tmp_path / "signing.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "signing.pem").stat().st_mode) == 0o600


def test_no_file_is_overwritten_and_no_link_followed(tmp_path: Path) -> None:
    path, link = tmp_path / "signing.pem", tmp_path / "link.pem"
    write_key(new_key(), path)
    before = path.read_bytes()
    link.symlink_to(tmp_path / "elsewhere.pem")
    for taken in (path, link):
        with pytest.raises(SettingsError, match="exists, and a key is never overwritten"):
            write_key(new_key(), taken)
    assert path.read_bytes() == before
    assert not (tmp_path / "elsewhere.pem").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "signing.pem"
    write_key(new_key(), path)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"chmod 600 '{path}'"):
        load_key(path)


@needs_openssl
def test_openssl_reads_both_halves_and_gives_the_same_id(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    key = new_key()
    write_key(key, path)
    assert openssl("pkey", "-in", path, "-pubout").decode() == key.public.pem
    assert hashlib.sha256(openssl("pkey", "-in", path, "-pubout", "-outform", "DER")).hexdigest() == key.id


@needs_openssl
def test_a_key_that_openssl_made_signs(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", path)
    path.chmod(0o600)
    assert len(load_key(path).sign(b"x")) == 64


@needs_openssl
@pytest.mark.parametrize("algorithm", ["RSA", "X25519", "ED448", "EC"])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, algorithm: str) -> None:
    path, public = tmp_path / "other.pem", tmp_path / "other.pub"
    more = ["-pkeyopt", "ec_paramgen_curve:P-256"] if algorithm == "EC" else []
    openssl("genpkey", "-algorithm", algorithm, *more, "-out", path)
    path.chmod(0o600)
    openssl("pkey", "-in", path, "-pubout", "-out", public)
    with pytest.raises(SettingsError, match="not an Ed25519 key"):
        load_key(path)
    with pytest.raises(SettingsError, match="not an Ed25519 key"):
        load_public_key(public)


@needs_openssl
def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locked.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:hunter2", "-out", path)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="has a password"):
        load_key(path)


def test_an_auditor_is_not_to_hold_the_private_half(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    write_key(new_key(), path)
    with pytest.raises(SettingsError, match="holds a private key; give the public one"):
        load_public_key(path)


@pytest.mark.parametrize("content", [b"", b"SECRET-TEXT", b"\x00" * 200_000])
def test_what_holds_no_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    for load in (load_key, load_public_key):
        with pytest.raises(SettingsError, match="holds no") as refused:
            load(path)
        assert "SECRET" not in str(refused.value)
    with pytest.raises(SettingsError, match="no such file"):
        load_key(tmp_path / "gone.pem")


def test_a_key_shows_nothing_of_itself() -> None:
    assert "rivate" not in repr(new_key())
