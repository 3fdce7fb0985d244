"""Envelopes: what others sign and verify is what we do, and what is no envelope is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from cfaudit_export.proof.envelope import LARGEST, PAYLOAD_TYPE, Envelope, open_envelope, pae, signers, wrap
from cfaudit_export.proof.keys import SigningKey, new_key

KEY, OTHER = new_key(), new_key()


def theirs(key: SigningKey) -> SSlibKey:
    return SSlibKey(key.id, "ed25519", "ed25519", {"public": key.public.der[-32:].hex()})


@given(st.binary(max_size=200), st.sampled_from([(), (KEY,), (KEY, OTHER)]))
def test_what_is_wrapped_is_opened_again_with_the_same_bytes(payload: bytes, keys: tuple[SigningKey, ...]) -> None:
    document = wrap(payload, keys)
    envelope = open_envelope(document)
    assert envelope.payload == payload
    assert signers(envelope, {KEY.id: KEY.public, OTHER.id: OTHER.public}) == {key.id for key in keys}
    assert signers(envelope, {}) == frozenset()


@given(st.binary(max_size=200))
def test_the_library_of_others_verifies_our_envelopes_and_makes_the_same_bytes(payload: bytes) -> None:
    document = wrap(payload, [KEY])
    envelope = TheirEnvelope.from_dict(json.loads(document))
    assert envelope.pae() == pae(payload)
    assert envelope.verify([theirs(KEY)], 1).keys() == {KEY.id}
    with pytest.raises(VerificationError):
        envelope.verify([theirs(OTHER)], 1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_our_signatures(tmp_path: Path) -> None:
    envelope = open_envelope(wrap(b'{"a":1}', [KEY]))
    for name, content in {
        "pae": pae(b'{"a":1}'),
        "sig": envelope.signatures[0].signature,
        "pub.pem": KEY.public.pem.encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-in", "pae", "-sigfile", "sig"]
    assert subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=60).stdout.startswith(
        b"Signature Verified Successfully"
    )
    (tmp_path / "pae").write_bytes(pae(b'{"a":2}'))
    assert subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, timeout=60).returncode == 1


def test_a_key_id_alone_is_not_believed() -> None:
    envelope = open_envelope(wrap(b"x", [OTHER]))
    lie = Envelope(envelope.payload, tuple(type(one)(KEY.id, one.signature) for one in envelope.signatures))
    assert signers(lie, {KEY.id: KEY.public}) == frozenset()


def changed(**fields: Any) -> bytes:
    document = json.loads(wrap(b"x", [KEY])) | fields
    kept = {key: value for key, value in document.items() if value != "LEFT OUT"}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "no DSSE envelope"),
        (changed(more=1), "no DSSE envelope"),
        (changed(payload="LEFT OUT"), "no DSSE envelope"),
        (changed(payload="e"), "no base64"),
        (changed(payload="eA=\n="), "no base64"),
        (changed(payload="eB=="), "bits left over"),
        (changed(payload=7), "no base64"),
        (changed(payloadType="text/plain"), re.escape(f"not of type {PAYLOAD_TYPE}")),
        (changed(signatures={}), "no list, or too many"),
        (changed(signatures=[{"keyid": KEY.id, "sig": ""}] * 17), "no list, or too many"),
        (changed(signatures=[{"keyid": 7, "sig": ""}]), "another form"),
        (changed(signatures=[{"keyid": "", "sig": "", "x": 1}]), "another form"),
        (changed(signatures=[7]), "another form"),
        (wrap(b"x") + b"\n", "not in canonical form"),
        (wrap(b"x").replace(b":", b": "), "not in canonical form"),
        (b" " * (LARGEST + 1), "larger than 64 MiB"),
        (b'{"payload":"eA==","payload":"eQ==","payloadType":"x","signatures":[]}', "comes twice"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_is_no_envelope_is_refused(document: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        open_envelope(document)
