"""The tools that a server lists -> the one to call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_types import Tool

from cfaudit_export.errors import ProtocolError


def choose_tool(tools: Sequence[Tool], wanted: str, usual: str, setting: str) -> Tool:
    """Return the tool named `wanted`; by default the usual one, also behind a gateway's prefix.

    Raises:
        ProtocolError: there is none, or several fit; `setting` is what names one.
    """
    names = [tool.name for tool in tools]
    exact = [tool for tool in tools if tool.name == (wanted or usual)]
    suffixed = [tool for tool in tools if not wanted and tool.name.endswith(usual)]
    found = exact or suffixed
    if len(found) == 1:
        return found[0]
    listed = ", ".join(names[:10]) or "none"
    if found:
        raise ProtocolError(f"several tools fit ({listed}); name one with -o {setting}=NAME")
    raise ProtocolError(f"the server has no tool '{wanted or usual}'; it has: {listed}")


def properties_of(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the arguments that an input schema describes; one that stands there as `true` or `null` says nothing."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {name: body if isinstance(body, Mapping) else {} for name, body in properties.items()}


def fingerprint(tool: Tool) -> str:
    """Return a short hash of the tool's name and input schema."""
    text = json.dumps([tool.name, tool.input_schema], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
