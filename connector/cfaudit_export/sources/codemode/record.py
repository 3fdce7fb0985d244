"""A record of the audit log as typed values; one of other types than the documented ones is read tolerantly."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Raw

UNKNOWN_FORM = "the server's page is not of the known form; please report this"
NULL = Raw(b"null")
ABSENT = Raw()
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]


class RecordObject(msgspec.Struct, gc=False):
    """An object within a record."""


class RecordAccount(RecordObject):
    """The account it belongs to."""

    name: str | None = None


class Action(RecordObject):
    """What was done, and when."""

    type: str | None = None
    result: str | None = None
    description: str | None = None
    time: str | None = None


class Token(RecordObject):
    """The token that was used."""

    id: str | None = None
    name: str | None = None


class RecordActor(RecordObject):
    """Who did it."""

    id: str | None = None
    type: str | None = None
    email: str | None = None
    context: str | None = None
    ip_address: str | None = None
    token: Token | None = None  # what live records have
    token_id: str | None = None  # what is documented
    token_name: str | None = None


class Resource(RecordObject):
    """What it was done to; free-form texts stay JSON."""

    id: str | None = None
    type: str | None = None
    product: str | None = None
    scope: Raw = ABSENT
    request: Raw = ABSENT
    response: Raw = ABSENT
    value: Raw = ABSENT


class Http(RecordObject):
    """The request."""

    cf_ray_id: str | None = None
    method: str | None = None
    uri: str | None = None
    user_agent: str | None = None
    status_code: Int32 | None = None


class Named(RecordObject):
    """A zone or an organization."""

    id: str | None = None
    name: str | None = None


class Record(msgspec.Struct, gc=False):
    """An event. What only few different ones of come again and again is not read here, but once for all of them."""

    action: Action
    id: str | None = None
    account: Raw = ABSENT
    actor: Raw = ABSENT
    resource: Resource | None = None
    raw: Http | None = None
    zone: Raw = ABSENT
    organization: Raw = ABSENT


RECORD = msgspec.json.Decoder(Record)
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_PARTS: dict[str, type[RecordObject]] = {"action": Action, "resource": Resource, "raw": Http}
_RECURRING = ("account", "actor", "zone", "organization")


def read_tolerantly(raw: Raw) -> Record:
    """Read a record whose types surprise: a text is itself, anything else its JSON, and what is no object is empty."""
    try:
        return RECORD.decode(raw)
    except msgspec.DecodeError:
        record = _object(raw)
    if record is None:  # what is no object has no parts, and so no time
        record = {}
    values: dict[str, Any] = {name: read_part(kind, record.get(name, NULL)) for name, kind in _PARTS.items()}
    values |= {name: record.get(name, ABSENT) for name in _RECURRING}
    return Record(id=as_text(bytes(record.get("id", NULL))), **values)


def read_part(kind: type[Any], raw: Raw) -> Any:
    """Read a part likewise; nothing is an empty one."""
    part = kind()
    for name, value in (_object(raw) or {}).items():
        if name == "token":
            part.token = read_part(Token, value)
        elif name == "status_code":
            part.status_code = _number(bytes(value))
        elif name in kind.__struct_fields__:
            setattr(part, name, value if isinstance(getattr(part, name), Raw) else as_text(bytes(value)))
    return part


def _object(raw: Raw) -> dict[str, Raw] | None:
    try:
        return _OBJECT.decode(raw)
    except msgspec.DecodeError:
        return None


def _number(text: bytes) -> int | None:
    try:
        return msgspec.json.decode(text, type=Int32, strict=False)
    except msgspec.DecodeError:
        return None


def as_text(text: bytes) -> str | None:
    """Return a JSON text as itself where it is a text, as nothing where it is null or not there, else as JSON."""
    if text in (b"null", b""):
        return None
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()
