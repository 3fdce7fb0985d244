"""Bytes <-> a DSSE envelope: the bytes in base64, with Ed25519 signatures of them and of their type.

What is signed is DSSE's pre-authentication encoding: type and content with their lengths, so that no other pair of a
type and a content has the same signed bytes. The id of a key is the SHA-256 of its public half as SPKI DER, in hex.
It only helps to find the key: a signature is believed because a key that the reader has verifies it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfaudit_export.proof.canonical import canonical, parse_canonical

if TYPE_CHECKING:
    from cfaudit_export.proof.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
LARGEST = 64 << 20
"""Bytes of an envelope that are read; a larger one is refused unread."""

_KEYS = {"payload", "payloadType", "signatures"}
_SIGNATURE_KEYS = {"keyid", "sig"}
_MOST_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, and the id of the key that it says made it."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A content and its signatures; none where no key was set.

    Attributes:
        payload: the content.
        signatures: in the order of the envelope; nothing is known yet of whether they are true.
    """

    payload: bytes
    signatures: tuple[Signature, ...] = ()


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def wrap(payload: bytes, keys: Iterable[SigningKey] = ()) -> bytes:
    """Return the envelope of a content, signed by each of the keys; with a line end, as files have."""
    signed = pae(payload)
    signatures = [{"keyid": key.id, "sig": _base64(key.sign(signed))} for key in keys]
    document = {"payload": _base64(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return canonical(document) + b"\n"


def open_envelope(document: bytes) -> Envelope:
    """Return what an envelope holds; its signatures are not looked at, see `signers`.

    Raises:
        ValueError: it is none; the text says why.
    """
    if len(document) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    found = parse_canonical(document.removesuffix(b"\n"))
    if not isinstance(found, dict) or found.keys() != _KEYS:
        raise ValueError("it is no DSSE envelope")
    if found["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"its payload is not of type {PAYLOAD_TYPE}")
    signatures = found["signatures"]
    if not isinstance(signatures, list) or len(signatures) > _MOST_SIGNATURES:
        raise ValueError("its signatures are no list, or too many")
    return Envelope(_bytes(found["payload"]), tuple(map(_signature, signatures)))


def signers(envelope: Envelope, keys: Mapping[str, PublicKey]) -> frozenset[str]:
    """Return the ids of those keys (id to key) of which the envelope has a true signature."""
    signed = pae(envelope.payload)
    return frozenset(
        one.key_id
        for one in envelope.signatures
        if (key := keys.get(one.key_id)) is not None and key.is_signature(one.signature, signed)
    )


def _signature(found: Any) -> Signature:
    if not isinstance(found, dict) or found.keys() != _SIGNATURE_KEYS or not isinstance(found["keyid"], str):
        raise ValueError("a signature has another form than DSSE's")
    return Signature(found["keyid"], _bytes(found["sig"]))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: Any) -> bytes:
    """Return the bytes that a text stands for, if it is the one text for them."""
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError("it holds no base64 where DSSE has base64") from None
    if _base64(content) != text:
        raise ValueError("it holds base64 with bits left over")
    return content
