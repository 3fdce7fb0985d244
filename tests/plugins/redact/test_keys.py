"""Keys: which one counts at a time, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cfaudit_export import SettingsError
from cfaudit_redact.keys import KeyRing, load_keys

from .conftest import SECRETS, keys_text

Write = Callable[..., Path]
JUNE = "2026-06-01T00:00:00Z"
TWO = keys_text((1, "2026-01-01T00:00:00Z", SECRETS[0]), (2, JUNE, SECRETS[1]))
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def ring(write: Write, text: str) -> KeyRing:
    return load_keys(write(text))


def id_at(keys: KeyRing, at: datetime) -> int:
    return keys.key(keys.number_at(at), at).id


def test_a_key_counts_from_its_moment_until_that_of_the_next(keys_file: Write) -> None:
    for text in (TWO, keys_text((2, JUNE, SECRETS[1]), (1, "2026-01-01T01:00:00+01:00", SECRETS[0]))):
        keys = ring(keys_file, text)
        june = datetime(2026, 6, 1, tzinfo=UTC)
        assert [id_at(keys, june - timedelta(microseconds=1)), id_at(keys, june), id_at(keys, NOVEMBER)] == [1, 2, 2]


def test_events_before_the_first_key_have_none(keys_file: Write) -> None:
    with pytest.raises(SettingsError, match="no key for 2025-12-31: the earliest in keys_file"):
        id_at(ring(keys_file, TWO), datetime(2025, 12, 31, tzinfo=UTC))


def test_the_time_of_a_destroyed_key_is_no_other_key_s(keys_file: Write) -> None:
    keys = ring(
        keys_file,
        keys_text((1, "2026-01-01T00:00:00Z", SECRETS[0]), (2, JUNE, None), (3, "2026-09-01T00:00:00Z", SECRETS[2])),
    )
    assert id_at(keys, NOVEMBER) == 3
    with pytest.raises(SettingsError, match="no key for 2026-07-01: key 2 has no secret any more"):
        id_at(keys, datetime(2026, 7, 1, tzinfo=UTC))


def test_a_secret_may_be_in_a_file_or_a_variable(
    keys_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_text(SECRETS[0] + "\n")
    (tmp_path / "one").chmod(0o600)
    monkeypatch.setenv("REDACT_KEY", SECRETS[0])
    said = [
        ring(keys_file, f'[[key]]\nid = 1\nfrom = {JUNE}\n{where} = "{what}"\n').memo
        for where, what in (("secret", SECRETS[0]), ("secret_file", "one"), ("secret_env", "REDACT_KEY"))
    ]
    assert len(set(said)) == 1
    (tmp_path / "one").chmod(0o644)
    with pytest.raises(SettingsError, match="others than its owner may read the key"):
        ring(keys_file, f'[[key]]\nid = 1\nfrom = {JUNE}\nsecret_file = "one"\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold tables"),
        ("key = 1", "must hold tables"),
        ("x = [", "is not valid TOML"),
        (f"{TWO}other = 1\n", "known are from, id, secret"),
        (keys_text((1, JUNE, SECRETS[0]), (1, "2026-07-01T00:00:00Z", SECRETS[1])), "two keys in .* have one 'id'"),
        (keys_text((1, JUNE, SECRETS[0]), (2, JUNE, SECRETS[1])), "two keys in .* have one 'from'"),
        (keys_text((1, JUNE, SECRETS[0][:20])), "15 bytes, and 32 are the least"),
        (keys_text((1, JUNE, "not base64!")), "is not base64"),
        (keys_text((1, "2026-06-01T00:00:00", SECRETS[0])), "needs 'from', whole seconds with a zone"),
        (keys_text((0, JUNE, SECRETS[0])), "needs an id, a whole number from 1"),
        (f'[[key]]\nid = 1\nfrom = {JUNE}\nsecret_env = "NOT_SET"\n', "in the variable 'NOT_SET', which is not set"),
        (f'[[key]]\nid = 1\nfrom = {JUNE}\nsecret = "a"\nsecret_env = "b"\n', "takes one of secret, secret_file"),
    ],
)
def test_keys_that_are_none_are_refused_without_being_shown(keys_file: Write, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        ring(keys_file, text)
    assert not any(secret[:12] in str(refused.value) for secret in SECRETS)


def test_no_secret_is_shown_or_remembered(keys_file: Write) -> None:
    keys = ring(keys_file, TWO)
    for shown in (repr(keys), keys.memo):
        assert not any(secret[:12] in shown for secret in SECRETS)
        assert repr(bytes(range(8)))[2:-1] not in shown


def test_keys_that_count_from_later_on_or_were_destroyed_are_no_change(keys_file: Write) -> None:
    memo = ring(keys_file, TWO).memo
    for text in (
        TWO,
        TWO + keys_text((3, "2026-11-01T00:00:00Z", SECRETS[2])),
        keys_text((1, "2026-01-01T00:00:00Z", None), (2, JUNE, SECRETS[1])),
        keys_text((2, JUNE, SECRETS[1])),
        keys_text((9, "2020-01-01T00:00:00Z", SECRETS[2])) + TWO,
    ):
        ring(keys_file, text).resume(memo, NOVEMBER)
    ring(keys_file, TWO).resume("", NOVEMBER)


@pytest.mark.parametrize(
    "text",
    [
        TWO + keys_text((3, "2026-10-31T23:59:59Z", SECRETS[2])),
        keys_text((1, "2026-01-01T00:00:00Z", SECRETS[0])),  # the second one removed: its time would be the first one's
        keys_text((1, "2026-01-01T00:00:00Z", SECRETS[0]), (2, JUNE, SECRETS[2])),
        keys_text((1, "2026-01-01T00:00:00Z", SECRETS[0]), (2, "2026-07-01T00:00:00Z", SECRETS[1])),
        keys_text((1, "2026-01-01T00:00:00Z", SECRETS[0]), (2, "2026-05-01T00:00:00Z", SECRETS[1])),
    ],
)
def test_other_keys_for_what_was_exported_are_refused(keys_file: Write, text: str) -> None:
    memo = ring(keys_file, TWO).memo
    with pytest.raises(SettingsError, match="were exported with key .; give it a later 'from'"):
        ring(keys_file, text).resume(memo, NOVEMBER)
