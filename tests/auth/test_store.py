from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import keyring
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked

from cfaudit_export.auth.grants import Grant
from cfaudit_export.auth.registration import Client
from cfaudit_export.auth.store import GrantStore, system_keyring
from cfaudit_export.errors import AccessError, TryAgainError

NOW = datetime(2026, 11, 20, 1, 2, 3, 456_789, tzinfo=UTC)
SECRETS = ("access-secret", "refresh-secret", "previous-secret", "client-secret")


def grant(**changes: Any) -> Grant:
    fields: dict[str, Any] = {
        "issuer": "https://as.example",
        "resource": "https://mcp.example/mcp",
        "profile": "default",
        "audience": "https://mcp.example/mcp",
        "client": Client(id="me", secret="client-secret", auth_method="client_secret_post", registered_at=NOW),
        "token_endpoint": "https://as.example/token",
        "access_token": "access-secret",
        "refresh_token": "refresh-secret",
        "previous_refresh_token": "previous-secret",
        "signed_in_at": NOW,
        "renewed_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
        "grant_expires_at": NOW + timedelta(days=30),
    }
    return Grant(**(fields | changes))


def found(store: GrantStore, profile: str = "default") -> Grant | None:
    return store.find("https://mcp.example/mcp", profile)


class Memory(KeyringBackend):
    """A keyring of the real library that keeps everything in memory."""

    priority: ClassVar[float] = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Locked(Memory):
    """A keyring whose owner is not there to unlock it."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(f"cannot keep {password}")

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked


@pytest.fixture
def chosen_keyring() -> Iterator[Callable[[KeyringBackend], None]]:
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_a_grant_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    GrantStore(tmp_path).add(grant())
    assert found(GrantStore(tmp_path)) == grant()


@given(text=st.text(max_size=30), seconds=st.none() | st.integers(0, 10**9))
def test_any_text_and_any_time_come_back(tmp_path_factory: pytest.TempPathFactory, text: str, seconds: int) -> None:
    end = None if seconds is None else NOW + timedelta(seconds=seconds)
    text = text.encode("utf-8", "replace").decode()
    one = grant(access_token=text, refresh_token=None, scope=text, grant_expires_at=end, expires_at=end)
    store = GrantStore(tmp_path_factory.mktemp("state"))
    store.add(one)
    assert found(store) == one


def test_nobody_else_can_read_a_grant(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        GrantStore(tmp_path / "deep" / "state").add(grant())
        with GrantStore(tmp_path / "deep" / "state").hold("https://mcp.example/mcp", "default", wait_seconds=0):
            pass
    finally:
        os.umask(before)
    folder = tmp_path / "deep" / "state" / "grants"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_no_secret_is_in_the_repr_of_a_grant_or_in_the_name_of_its_file(tmp_path: Path) -> None:
    GrantStore(tmp_path).add(grant())
    names = " ".join(str(path) for path in tmp_path.rglob("*"))
    assert not any(secret in repr(grant()) + names for secret in SECRETS)
    assert grant().secrets == SECRETS


def test_resources_profiles_and_issuers_are_kept_apart(tmp_path: Path) -> None:
    store = GrantStore(tmp_path)
    store.add(grant())
    store.add(grant(profile="other", access_token="b"))
    store.add(grant(resource="https://mcp.example/other", access_token="c"))
    later = grant(issuer="https://new.example", access_token="d", signed_in_at=NOW + timedelta(days=1))
    store.add(later)
    assert found(store) == later
    assert found(store, "other") == grant(profile="other", access_token="b")
    store.remove(later)
    assert found(store) == grant()
    store.clear("https://mcp.example/mcp", "default")
    assert found(store) is None
    assert found(store, "other") is not None


def test_what_is_not_there_can_be_removed(tmp_path: Path) -> None:
    store = GrantStore(tmp_path / "nothing")
    store.remove(grant())
    store.clear("https://mcp.example/mcp", "default")
    assert found(store) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"access_token": "access-secret"}', b"\xff"])
def test_a_damaged_grant_is_named_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    store = GrantStore(tmp_path)
    store.add(grant())
    path = next((tmp_path / "grants").glob("*.json"))
    path.write_bytes(content)
    with pytest.raises(AccessError, match="run: cfaudit-export login") as caught:
        found(store)
    assert str(path) in str(caught.value)
    assert "access-secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_grant_that_cannot_be_kept_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(TryAgainError, match="cannot be kept"):
        GrantStore(tmp_path / "state").add(grant())
    with (
        pytest.raises(TryAgainError, match="cannot be kept"),
        GrantStore(tmp_path / "state").hold("r", "p", wait_seconds=0),
    ):
        pass


def _rewrite(state_dir: Path, ready: Any) -> None:
    store, number = GrantStore(state_dir), 0
    while True:
        number += 1
        store.update(grant(access_token=str(number) * 5_000))
        ready.set()


def test_a_kill_at_any_moment_leaves_a_whole_grant(tmp_path: Path) -> None:
    store = GrantStore(tmp_path)
    store.add(grant())
    context = multiprocessing.get_context("fork")
    for _ in range(10):
        ready = context.Event()
        child = context.Process(target=_rewrite, args=(tmp_path, ready))
        child.start()
        assert ready.wait(10)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        kept = found(store)
        assert kept is not None
        assert len(set(kept.access_token)) <= 10


def test_one_holder_at_a_time_and_the_next_one_after_it(tmp_path: Path) -> None:
    one, other = GrantStore(tmp_path), GrantStore(tmp_path)
    with one.hold("r", "p", wait_seconds=1):
        with pytest.raises(TryAgainError, match="another process"), other.hold("r", "p", wait_seconds=0):
            pass
        with other.hold("r", "q", wait_seconds=0):
            pass
    with other.hold("r", "p", wait_seconds=0):
        pass


def test_a_keyring_takes_new_grants_and_the_file_only_says_so(tmp_path: Path) -> None:
    memory = Memory()
    store = GrantStore(tmp_path, keyring=memory)
    store.add(grant())
    store.update(replace(grant(), access_token="renewed-secret"))
    assert found(store) == replace(grant(), access_token="renewed-secret")
    assert len(memory.kept) == 1
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert everything == b'{"kept_in":"keyring"}\n'
    store.remove(grant())
    assert memory.kept == {}
    assert found(store) is None


def test_a_grant_in_a_file_stays_there_when_a_keyring_appears_until_the_next_sign_in(tmp_path: Path) -> None:
    memory = Memory()
    GrantStore(tmp_path).add(grant())
    GrantStore(tmp_path, keyring=memory).update(grant(access_token="renewed"))
    assert memory.kept == {}
    GrantStore(tmp_path, keyring=memory).add(grant())
    assert len(memory.kept) == 1


def test_signing_in_with_the_keyring_switched_off_takes_the_grant_out_of_it(
    tmp_path: Path, chosen_keyring: Callable[[KeyringBackend], None]
) -> None:
    memory = Memory()
    GrantStore(tmp_path, keyring=memory).add(grant())
    chosen_keyring(memory)
    GrantStore(tmp_path).add(grant(access_token="new"))
    assert memory.kept == {}
    assert found(GrantStore(tmp_path)) == grant(access_token="new")


def test_a_run_without_the_keyring_says_what_to_do(
    tmp_path: Path, chosen_keyring: Callable[[KeyringBackend], None]
) -> None:
    GrantStore(tmp_path, keyring=Memory()).add(grant())
    chosen_keyring(NoKeyring())
    with pytest.raises(AccessError, match="sign in with --keyring off"):
        found(GrantStore(tmp_path))


def test_a_keyring_that_lost_the_grant_means_signing_in_again(tmp_path: Path) -> None:
    memory = Memory()
    GrantStore(tmp_path, keyring=memory).add(grant())
    memory.kept.clear()
    with pytest.raises(AccessError, match="run: cfaudit-export login"):
        found(GrantStore(tmp_path, keyring=memory))


def test_a_keyring_that_fails_is_a_reason_to_try_again_and_its_words_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(TryAgainError, match="KeyringLocked") as caught:
        GrantStore(tmp_path, keyring=Locked()).add(grant())
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_systems_keyring_is_used_only_if_it_works(chosen_keyring: Callable[[KeyringBackend], None]) -> None:
    memory = Memory()
    chosen_keyring(memory)
    assert system_keyring() is memory
    assert memory.kept == {}
    for useless in (NoKeyring(), Locked()):
        chosen_keyring(useless)
        assert system_keyring() is None
