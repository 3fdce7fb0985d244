"""`key`: a signing key in a file for its owner, and its public half on stdout."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.proof.keys import load_key, load_public_key

Cli = Callable[..., Any]


def test_a_new_key_is_written_and_its_public_half_printed(cli: Cli, place: Path) -> None:
    done = cli("key", "new", "--out", "signing.pem")
    assert done.code == 0
    key = load_key(Path("signing.pem"))
    assert done.out == key.public.pem
    assert done.line == f"wrote the signing key to 'signing.pem'; this is the public key, with id {key.id}:"
    assert stat.S_IMODE(Path("signing.pem").stat().st_mode) == 0o600
    Path("audit.pub").write_text(done.out)
    assert load_public_key(Path("audit.pub")).id == key.id
    again = cli("key", "new", "--out", "signing.pem")
    assert (again.code, again.out) == (78, "")
    assert load_key(Path("signing.pem")).id == key.id


def test_the_key_in_use_is_shown(cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = cli("key", "new", "--out", "signing.pem").out
    assert cli("key", "show", "--key-file", "signing.pem").out == public
    monkeypatch.setenv("CFAUDIT_SIGNING_KEY_FILE", "signing.pem")
    assert cli("key", "show").out == public
    shown = json.loads(cli("key", "show", "--json").out)
    assert shown == {"id": load_key(Path("signing.pem")).id, "public_key": public}


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("key",), 2, "missing argument"),
        (("key", "make"), 2, "expected one of new, show, rotate"),
        (("key", "new"), 2, "say where the signing key goes"),
        (("key", "show"), 2, "say which key"),
        (("key", "show", "--key-file", "gone"), 78, "cannot be used: no such file"),
        (("key", "new", "--out", "gone/signing.pem"), 78, "cannot be used: no such file"),
    ],
)
def test_what_is_asked_wrongly_is_explained(cli: Cli, given: tuple[str, ...], code: int, said: str) -> None:
    done = cli(*given)
    assert (done.code, done.out) == (code, "")
    assert said in done.line
