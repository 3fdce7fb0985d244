"""`pseudonym` and `reveal`: for those who hold the keys."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
SECRET = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def keys(place: Path) -> list[str]:
    path = Path("keys.toml")
    text = "".join(
        f'[[key]]\nid = {number}\nfrom = {year}-01-01T00:00:00Z\nsecret = "{SECRET}"\n'
        for number, year in ((1, 2020), (2, 2026))
    )
    path.write_text(text)
    path.chmod(0o600)
    return [
        "-o",
        "transforms.redact.encrypt=['actor_email']",
        "-o",
        f"transforms.redact.keys_file={path}",
        "-o",
        "transforms.redact.drop=['event_raw']",
    ]


def test_all_pseudonyms_of_a_person_are_shown(cli: Cli, keys: list[str]) -> None:
    done = cli("pseudonym", "Ada@example.com", *keys)
    assert done.code == 0, done.err
    names = done.out.split()
    assert {name[:3] for name in names} == {"p1_", "p2_"}
    assert cli("pseudonym", "ada@example.com", *keys).out.split()[0] == names[0]
    assert json.loads(cli("pseudonym", "ada@example.com", "--json", *keys).out)["ada@example.com"][0] == names[0]


def test_encrypted_values_are_read_again(cli: Cli, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from cfaudit_redact.keys import load_keys
    from cfaudit_redact.values import encrypted

    hidden = encrypted(load_keys(Path("keys.toml")).keys[1], "email", "ada@example.com")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"who,{hidden}\nnobody,e9_{'A' * 30}\n"))
    done = cli("reveal", *keys)
    assert (done.code, done.out) == (0, f"who,ada@example.com\nnobody,e9_{'A' * 30}\n")


def test_without_rules_there_are_no_keys(cli: Cli, place: Path) -> None:
    done = cli("pseudonym", "ada@example.com")
    assert done.code == 78
    assert "there is no rule; name a preset" in done.line
    assert cli("pseudonym", "x", "--with", "redcat").code == 78
