"""One entry of each table, a resource and an instant -> the text of a whole record, and of its six-field row.

Both are joined from parts prepared once, because a page of a thousand rows must cost about a millisecond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cfaudit_sandbox.world.catalog import ACTIONS, IDENTITIES, OUTCOMES, ZONES, ActionKind, Identity
from cfaudit_sandbox.world.text import escaped, js

_MASK = (1 << 64) - 1
_ODD = 0x9E37_79B9_7F4A_7C15
_INVERSE = pow(_ODD, -1, 1 << 64)
_COLOS = ("FRA", "ARN", "NRT", "IAD", "MEL")


@dataclass(frozen=True, slots=True)
class SandboxAccount:
    """A Cloudflare account: 32 hex digits and a name."""

    id: str
    name: str


class Composer:
    """The prepared parts of one account's records. `salt` tells several generated stretches of a log apart."""

    def __init__(self, seed: int, account: SandboxAccount, salt: int = 0) -> None:
        self._account = account
        self._digest = partial(_digest, seed, account.id)
        self._key = int(self._digest("key", salt)[:16], 16)
        self._head = [_action_head(account, action) for action in ACTIONS]
        self._result = [f'"result":"{outcome.result}","time":"' for outcome in OUTCOMES]
        self._status = [str(outcome.status) for outcome in OUTCOMES]
        self._kind = [f'","type":"{action.action}"}}' for action in ACTIONS]
        bodies = [_actor(identity, self._digest) for identity in IDENTITIES]
        self._actor = [f',"actor":{js(body)}' if body else "" for body in bodies]
        self._tails: dict[tuple[int, int], tuple[str, str, str]] = {}
        self._row_head = [escaped(f'{{"description":{js(action.description or "")},"time":"') for action in ACTIONS]
        self._row_actor = [escaped('"' + _row_actor(identity)) for identity in IDENTITIES]
        self._row_tail = [escaped(_row_resource(action) + "}") for action in ACTIONS]
        self._agents = [escaped(identity.agent) for identity in IDENTITIES]

    def row(self, action: int, identity: int, time: str) -> str:
        """Write the six-field row as it stands inside the JSON string of a tool's text."""
        return self._row_head[action] + time + self._row_actor[identity] + self._row_tail[action]

    def text(self, index: int, time_ns: int, time: str, entry: tuple[int, int, int, int]) -> str:
        """Write the whole record; `entry` holds the numbers of action, identity, resource and outcome."""
        number, identity, resource, outcome = entry
        action = ACTIONS[number]
        tail = self._tails.get((number, resource))
        if tail is None:
            tail = self._tails[number, resource] = self._tail(action, resource)
        method, uri_end, rest = tail
        if action.shape == "no-raw":
            raw = ""
        elif action.shape == "no-ray":
            raw = f',"raw":{{{method}{self._status[outcome]}{uri_end}}}'
        else:
            raw = (
                f',"raw":{{"cf_ray_id":"{self.ray(index)}",{method}{self._status[outcome]}{uri_end}'
                f',"user_agent":"{self._agents[identity]}"}}'
            )
        return (
            f"{self._head[number]}{self._result[outcome]}{time}{self._kind[number]}{self._actor[identity]}"
            f',"id":"{self.uuid(index, time_ns)}"{raw}{rest}'
        )

    def uuid(self, index: int, time_ns: int) -> str:
        """Make the UUIDv7 (RFC 9562) whose milliseconds are those of the event."""
        mixed = ((index ^ self._key) * _ODD) & _MASK
        mixed ^= mixed >> 29
        low = (mixed * 0xBF58_476D_1CE4_E5B9) & (_MASK >> 2) | 1 << 63
        high = f"{time_ns // 1_000_000:012x}"
        tail = f"{low:016x}"
        return f"{high[:8]}-{high[8:]}-7{mixed >> 52:03x}-{tail[:4]}-{tail[4:]}"

    def ray(self, index: int) -> str:
        """Make the ray id of a record."""
        return f"{(index * _ODD + self._key) & _MASK:016x}-{_COLOS[index % len(_COLOS)]}"

    def index_of_ray(self, ray: str) -> int | None:
        """Find the only record that can have this ray id."""
        try:
            return ((int(ray.partition("-")[0], 16) - self._key) * _INVERSE) & _MASK
        except ValueError:
            return None

    def _tail(self, action: ActionKind, resource: int) -> tuple[str, str, str]:
        """Prepare what depends on action and resource: method, URI, and the end of the record."""
        zone = _zone(self._digest, resource % ZONES) if action.zonal else None
        scope = f"zones/{zone['id']}" if zone else f"accounts/{self._account.id}"
        body = _resource(action, resource, self._digest)
        name = body.get("id", "") if body else ""
        path = f"/client/v4/{scope}/{action.type.replace('.', '/')}/{name}".rstrip("/")
        rest = f',"resource":{js(body)}' if body else ""
        if action.shape == "empty-zone":
            rest += ',"zone":{}'
        elif zone:
            rest += f',"zone":{js(zone)}'
        return f'"method":"{action.method}","status_code":', f',"uri":{js(path)}', rest + "}"


def _digest(*words: object) -> str:
    """Make 64 hex digits that look random and are the same for the same words."""
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()


def _action_head(account: SandboxAccount, action: ActionKind) -> str:
    description = "" if action.description is None else f'"description":{js(action.description)},'
    return f'{{"account":{js({"id": account.id, "name": account.name})},"action":{{{description}'


def _email(identity: Identity) -> str | None:
    return f"{identity.person}@example.com" if identity.person else None


def _actor(identity: Identity, digest: Callable[..., str]) -> dict[str, Any]:
    """Build the actor; an API token lies in an object of its own, or flat beside the rest."""
    who = identity.person or identity.credential
    body: dict[str, Any] = {
        "id": digest("actor", who)[:32] if who else None,
        "context": identity.context,
        "email": _email(identity),
        "ip_address": identity.address,
        "type": identity.kind,
    }
    if identity.credential:
        token = {"id": digest("token", identity.credential)[:32], "name": identity.credential}
        body |= (
            {"token": token} if identity.shape == "nested" else {"token_id": token["id"], "token_name": token["name"]}
        )
    return {name: value for name, value in body.items() if value is not None}


def _row_actor(identity: Identity) -> str:
    email = f',"actor_email":{js(_email(identity))}' if identity.person else ""
    flat = identity.credential and identity.shape == "flat"
    return email + (f',"actor_token_name":{js(identity.credential)}' if flat else "")


def _row_resource(action: ActionKind) -> str:
    if action.shape == "no-resource":
        return ""
    return f',"product":{js(action.product)},"type":{js(action.type)}'


def _zone(digest: Callable[..., str], number: int) -> dict[str, str]:
    return {"id": digest("zone", number)[:32], "name": f"shop-{number + 1}.example"}


def _resource(action: ActionKind, resource: int, digest: Callable[..., str]) -> dict[str, Any] | None:
    """Build the resource with request and response bodies of the usual size."""
    if action.shape == "no-resource":
        return None
    if action.shape == "bare-resource":
        return {"product": action.product, "type": action.type}
    name = digest("resource", action.type, resource)
    label = f"{action.type.rpartition('.')[2].rstrip('s')}-{resource + 1:02d}"
    body: dict[str, Any] = {
        "id": name[:32],
        "product": action.product,
        "request": {
            "name": label,
            "comment": f"managed by change {name[32:40]}",
            "enabled": resource % 3 > 0,
            "tags": ["env:prod", f"team:{name[40:44]}"],
            "settings": {"ttl": 60 * (resource + 1), "priority": resource, "mode": "strict", "ratio": 0.5},
        },
        "response": {
            "success": True,
            "errors": [],
            "messages": [],
            "result": {
                "id": name[:32],
                "name": label,
                "etag": name,
                "created_on": "2026-03-11T09:30:00.000000Z",
                "owner": {"id": digest("owner", resource)[:32], "email": "owner@example.com"},
                "null_here_is_fine": None,
            },
        },
        "scope": {"user-scope": "user", "membership-scope": "memberships"}.get(
            action.shape, "zones" if action.zonal else "accounts"
        ),
        "type": action.type,
    }
    if action.shape == "object-scope":
        body["scope"] = {"type": "accounts", "id": digest("scope")[:32]}
    if action.shape == "value":
        body["value"] = {"before": "http", "after": ["https", 443]}
    if action.shape == "no-id":
        del body["id"]
    if action.action == "delete":
        del body["request"]
    return body
