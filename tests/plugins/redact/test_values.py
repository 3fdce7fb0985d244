"""Values: pseudonyms, ciphertexts, networks of addresses, and what is found anywhere in a text."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_redact.keys import KeyRing, PeriodKey
from cfaudit_redact.scrub import _EMAIL, REMOVED, is_secret_name, without_emails, without_secrets
from cfaudit_redact.values import Hider, cut_ip, encrypted, revealed

from .conftest import START

KEY = PeriodKey(1, START, "mark", b"p" * 64, b"e" * 64)
RING = KeyRing((KEY,))


def test_encryption_is_that_of_rfc_5297() -> None:
    # Appendix A.1: the library does what the standard says.
    key = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    associated = bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")
    sealed = AESSIV(key).encrypt(bytes.fromhex("112233445566778899aabbccddee"), [associated])
    assert sealed.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"


@given(st.text(min_size=1), st.sampled_from(["email", "ip", "id", "text"]))
def test_what_is_encrypted_is_read_again_by_its_key_alone(value: str, kind: str) -> None:
    hidden = encrypted(KEY, kind, value)
    assert hidden == encrypted(KEY, kind, value)
    assert revealed(RING, f"x {hidden}, y") == f"x {value}, y"
    assert revealed(KeyRing((PeriodKey(1, START, "mark", b"", b"o" * 64),)), hidden) == hidden
    assert revealed(KeyRing((PeriodKey(2, START, "mark", b"", b"e" * 64),)), hidden) == hidden


def test_what_only_looks_encrypted_stays() -> None:
    for text in ("e1_" + "A" * 22, "e1_" + "A" * 23, "e1_short", "the1_" + "A" * 30):
        assert revealed(RING, text) == text


def test_a_person_has_one_pseudonym_however_the_address_is_written() -> None:
    hider = Hider()
    one = hider.pseudonym(KEY, "email", "Jürgen@Example.COM")
    assert hider.pseudonym(KEY, "email", "ju\u0308rgen@example.com") == one
    assert one.startswith("p1_")
    assert len(one) == 35
    assert hider.pseudonym(KEY, "text", "Jürgen@Example.COM") != one
    assert hider.pseudonym(PeriodKey(1, START, "m", b"q" * 64, b""), "email", "x@y.z") != hider.pseudonym(
        KEY, "id", "x@y.z"
    )


def test_the_domain_may_stay() -> None:
    assert Hider(email_domain=True).pseudonym(KEY, "email", "Ada@Example.com").endswith("@example.com")
    assert "@" not in Hider(email_domain=True).pseudonym(KEY, "id", "a@b")
    assert "@" not in Hider(email_domain=True).pseudonym(KEY, "email", "nobody")


@pytest.mark.parametrize(
    ("address", "cut"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:203.0.113.7", "::"),
        ("fe80::1%eth0", "fe80::"),
        ("", None),
        ("unknown", None),
        ("203.0.113.77:80", None),
    ],
)
def test_of_an_address_the_network_stays_and_of_anything_else_nothing(address: str, cut: str | None) -> None:
    assert cut_ip(address) == cut


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ada@example.com's Account", "<ada@example.com>'s Account"),
        (
            "mail to <ada.l+x@sub.example.com>, root@localhost.",
            "mail to <<ada.l+x@sub.example.com>>, <root@localhost>.",
        ),
        ("/members?email=ada%40example.com&x=1", "/members?email=<ada@example.com>&x=1"),
        ("/members?email=ada%2Bx%40example.com", "/members?email=<ada+x@example.com>"),
        ('{"e":"ada\\u0040example.com"}', '{"e":"<ada@example.com>"}'),
        ("jürgen@bücher.example", "<jürgen@bücher.example>"),
        ("@scope/package, a @ b", "@scope/package, a @ b"),
        ("p1_0123456789abcdef0123456789abcdef@example.com", "p1_0123456789abcdef0123456789abcdef@example.com"),
        ("a@b a@b", "<a@b> <a@b>"),
        ("nothing", "nothing"),
    ],
)
def test_an_email_address_is_found_anywhere(text: str, left: str) -> None:
    assert without_emails(text, "<{}>".format) == left


pieces = st.sampled_from(
    ["a", "b.c", "@", "%2B", "%2b", "%40", "2", "B", " ", "-", "ü", "{", '"', "/", "\\u0040", ".", "x" * 95, "x" * 330]
)


@given(st.lists(pieces, max_size=12).map("".join))
def test_an_address_is_found_from_its_at_sign_as_one_expression_finds_it(text: str) -> None:
    def hidden(found: re.Match[str]) -> str:
        return f"<{found[1].replace('%2B', '+').replace('%2b', '+')}@{found[2]}>"

    assert without_emails(text, "<{}>".format) == _EMAIL.sub(hidden, text)


@pytest.mark.parametrize(
    "secret",
    [
        "cfut_0123456789abcdefABCDEF",
        "cfat_0123456789abcdefABCDEF",
        "v1.0-0123456789abcdef01234567",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl",
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\ncut off",
    ],
)
def test_what_looks_like_a_secret_is_removed(secret: str) -> None:
    assert without_secrets(f"before {secret}") == f"before {REMOVED}"


@pytest.mark.parametrize("name", ["password", "client_secret", "accessToken", "private_key", "Authorization", "key"])
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)
    assert not is_secret_name(f"{name}_id")
