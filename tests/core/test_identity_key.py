"""Keys of events under a secret: what it takes to compute them, and the file that holds it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from cfaudit_export.core.identity import event_keys
from cfaudit_export.core.identity_key import IdentityKey, identity_key, load_identity_key, new_identity_key
from cfaudit_export.errors import SettingsError
from cfaudit_sandbox import SandboxOptions, World

SECRET = bytes(range(64))
KEY = identity_key(SECRET)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("secret", [SECRET[:32], SECRET[:33], SECRET])
@pytest.mark.parametrize("text", [b"", b"abc", b"x" * 1_000])
def test_openssl_makes_the_same_digest(secret: bytes, text: bytes, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(text)
    options = ("-macopt", f"hexkey:{secret.hex()}", "-macopt", "size:16", "-in", tmp_path / "text")
    made = subprocess.run(["openssl", "mac", *options, "BLAKE2BMAC"], check=True, capture_output=True, timeout=60)
    assert bytes.fromhex(made.stdout.decode().strip()) == identity_key(secret).digest(text)


def full_events(number: int) -> pa.Table:
    """Return events of the sandbox's world with what their keys are computed from."""
    world = World(SandboxOptions(events=number), clock=lambda: 1_790_000_000.0)
    rows = list(world.rows(world.accounts[0].id))[:number]
    columns = {
        "action_description": "description",
        "actor_email": "actor_email",
        "actor_token_name": "actor_token_name",
        "resource_product": "product",
        "resource_type": "type",
    }
    table = {
        name: pa.array([(row.get(key) or "").encode("utf-8", "replace").decode() or None for row in rows], pa.string())
        for name, key in columns.items()
    }
    times = pa.array([row["time"] for row in rows], pa.string()).cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"event_time": times, **table})


def guessed(events: pa.Table, keys: list[str], candidates: Iterable[str]) -> int:
    """Return of how many events the address is found by one who has the list of candidates, and all but the address."""
    hidden = events.drop_columns("actor_email")
    found = 0
    for address in sorted(candidates):
        tried = hidden.append_column("actor_email", pa.array([address] * events.num_rows, pa.string()))
        for mine, theirs, true in zip(
            event_keys("0" * 32, tried).to_pylist(), keys, events["actor_email"].to_pylist(), strict=True
        ):
            found += mine == theirs and true == address
    return found


def test_a_list_of_addresses_finds_names_in_plain_keys_and_none_in_secret_ones() -> None:
    events = full_events(300)
    people = {one for one in events["actor_email"].to_pylist() if one}
    named = events.num_rows - events["actor_email"].null_count
    assert named > 200
    plain = event_keys("0" * 32, events).to_pylist()
    assert guessed(events, plain, people) > named * 0.9  # the attack works
    assert guessed(events, event_keys("0" * 32, events, KEY).to_pylist(), people) == 0


def test_keys_under_a_secret_are_as_wide_and_as_different_as_plain_ones() -> None:
    events = full_events(300)
    keys = event_keys("0" * 32, events, KEY).to_pylist()
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}
    other = event_keys("0" * 32, events, identity_key(SECRET[::-1])).to_pylist()
    assert not set(keys) & ({*other} | {*event_keys("0" * 32, events).to_pylist()})


def test_nonces_are_others_than_keys_and_differ_by_event_and_secret() -> None:
    made = [KEY.nonce("a"), KEY.nonce("b"), identity_key(SECRET[::-1]).nonce("a")]
    assert len(set(made)) == 3
    assert {len(one) for one in made} == {32}
    assert KEY.nonce("a")[:16] != KEY.digest(b"a")


def test_a_new_key_is_for_its_owner_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    before = os.umask(0)
    try:
        made = new_identity_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_identity_key(path) == made
    with pytest.raises(SettingsError, match="exists, and a key is never overwritten"):
        new_identity_key(path)
    assert load_identity_key(path) == made


def test_the_secret_is_shown_nowhere_and_its_id_is_that_of_the_documentation() -> None:
    assert KEY.id == hashlib.sha256(SECRET).hexdigest()[:8]
    assert repr(KEY) == f"IdentityKey(id='{KEY.id}')"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_an_editor_s_end_of_line_makes_no_other_key(end: bytes) -> None:
    assert identity_key(b"0123456789abcdef" * 2 + end) == identity_key(b"0123456789abcdef" * 2)


def test_what_is_longer_than_the_hash_takes_counts_to_its_end() -> None:
    first, second = (identity_key(SECRET + last) for last in (b"a", b"b"))
    assert first.digest(b"x") != second.digest(b"x")


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "holds 0 bytes"), (SECRET[:31], "holds 31 bytes"), (b"a" * 64, "holds no random bytes")],
)
def test_what_can_be_guessed_is_no_key(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_identity_key(written(tmp_path / "key", content))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SettingsError, match="others than its owner may read the identity key"):
        load_identity_key(written(tmp_path / "key", SECRET, mode))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="identity key file '.*gone' cannot be used: no such file"):
        load_identity_key(tmp_path / "gone")
    assert isinstance(KEY, IdentityKey)
