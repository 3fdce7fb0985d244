"""A record -> the issues that the server's validator raises against it, in that validator's own words.

The server checks every page against a schema and refuses the page for one bad row. `RECORD` is that schema,
`issues` walks it, and the two functions at the end write an issue as zod 4 (deployed) or zod 3 (older) does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

EMAIL_PATTERN = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
TIME_PATTERN = (
    r"^(?:(?:\d\d[2468][048]|\d\d[13579][26]|\d\d0[48]|[02468][048]00|[13579][26]00)-02-29|"
    r"\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|"
    r"(?:02)-(?:0[1-9]|1\d|2[0-8])))T(?:(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:Z))$"
)
ABSENT: Any = object()
"""Stands for a key that is not there: `undefined`."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string, perhaps of a format (its name and pattern) or at most so long."""

    format: str | None = None
    pattern: str = ""
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few strings."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number."""


@dataclass(frozen=True, slots=True)
class Free:
    """An object with any content."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with known fields, in order; those named in `required` must be there. Others are ignored."""

    fields: tuple[tuple[str, Node], ...]
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """One of several schemas."""

    options: tuple[Node, ...]


Node = Text | Choice | Number | Free | Shape | Either
Path = tuple[str | int, ...]

EMAIL = Text("email", EMAIL_PATTERN)
ACTION_RESULTS = ("success", "failure", "")
ACTION_TYPES = ("create", "delete", "view", "update", "login")
ACTOR_CONTEXTS = ("api_key", "api_token", "dash", "oauth", "origin_ca_key")
ACTOR_TYPES = ("cloudflare_admin", "account", "user", "system")

RECORD = Shape(
    (
        ("account", Shape((("id", Text()), ("name", Text())), ("id", "name"))),
        (
            "action",
            Shape(
                (
                    ("description", Text()),
                    ("result", Choice(ACTION_RESULTS)),
                    ("time", Text("datetime", TIME_PATTERN)),
                    ("type", Choice(ACTION_TYPES)),
                ),
                ("result", "time", "type"),
            ),
        ),
        (
            "actor",
            Shape(
                (
                    ("id", Text()),
                    ("context", Choice(ACTOR_CONTEXTS)),
                    ("email", EMAIL),
                    ("ip_address", Text()),
                    ("token_id", Text()),
                    ("token_name", Text()),
                    ("type", Choice(ACTOR_TYPES)),
                )
            ),
        ),
        ("id", Text(longest=36)),
        (
            "raw",
            Shape(
                (
                    ("cf_ray_id", Text()),
                    ("method", Text()),
                    ("status_code", Number()),
                    ("uri", Text()),
                    ("user_agent", Text()),
                )
            ),
        ),
        (
            "resource",
            Shape(
                (
                    ("id", Text()),
                    ("product", Text()),
                    ("request", Free()),
                    ("response", Free()),
                    ("scope", Either((Text(), Free()))),
                    ("type", Text()),
                )
            ),
        ),
        ("zone", Shape((("id", Text()), ("name", Text())))),
    ),
    ("account", "action", "id"),
)


@dataclass(frozen=True, slots=True)
class SchemaIssue:
    """A value that does not fit: `flaw` is type, choice, format, length or union."""

    flaw: str
    path: Path
    node: Node
    value: Any
    nested: tuple[tuple[SchemaIssue, ...], ...] = ()


def js_type(value: object) -> str:
    """Name a JSON value's type as the validator does."""
    if value is ABSENT:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def expected_type(node: Node) -> str:
    """Name the type that a schema wants, as zod 4 does."""
    return {Text: "string", Number: "number", Free: "record", Shape: "object"}.get(type(node), "string")


def issues(node: Node, value: object, path: Path = ()) -> Iterator[SchemaIssue]:
    """Yield every issue of a value, in the order of the schema."""
    if isinstance(node, Choice):
        if value not in node.values:
            yield SchemaIssue("choice", path, node, value)
    elif isinstance(node, Either):
        nested = tuple(tuple(issues(option, value)) for option in node.options)
        if all(nested):
            yield SchemaIssue("union", path, node, value, nested)
    elif js_type(value) != expected_type(node).replace("record", "object"):
        yield SchemaIssue("type", path, node, value)
    else:
        yield from _inner_issues(node, value, path)


def _inner_issues(node: Node, value: Any, path: Path) -> Iterator[SchemaIssue]:
    """Yield the issues of a value that has the right type."""
    if isinstance(node, Shape):
        for name, field in node.fields:
            if name in value or name in node.required:
                yield from issues(field, value.get(name, ABSENT), (*path, name))
    elif isinstance(node, Text):
        if node.format and not re.fullmatch(node.pattern, value, re.ASCII):
            yield SchemaIssue("format", path, node, value)
        if node.longest is not None and len(value) > node.longest:
            yield SchemaIssue("length", path, node, value)


def zod4(issue: SchemaIssue) -> dict[str, Any]:
    """Write an issue as zod 4 does."""
    node, path = issue.node, list(issue.path)
    if isinstance(node, Choice):
        choices = "|".join(f'"{value}"' for value in node.values)
        message = f"Invalid option: expected one of {choices}"
        return {"code": "invalid_value", "values": list(node.values), "path": path, "message": message}
    if isinstance(node, Either):
        nested = [[zod4(inner) for inner in option] for option in issue.nested]
        return {"code": "invalid_union", "errors": nested, "path": path, "message": "Invalid input"}
    if issue.flaw == "type":
        expected = expected_type(node)
        message = f"Invalid input: expected {expected}, received {js_type(issue.value)}"
        return {"expected": expected, "code": "invalid_type", "path": path, "message": message}
    assert isinstance(node, Text)  # noqa: S101 - only texts have a format or a length
    if issue.flaw == "length":
        return {
            "origin": "string",
            "code": "too_big",
            "maximum": node.longest,
            "inclusive": True,
            "path": path,
            "message": f"Too big: expected string to have <={node.longest} characters",
        }
    return {
        "origin": "string",
        "code": "invalid_format",
        "format": node.format,
        "pattern": f"/{node.pattern}/",
        "path": path,
        "message": "Invalid email address" if node.format == "email" else "Invalid ISO datetime",
    }


def zod3(issue: SchemaIssue) -> dict[str, Any]:
    """Write an issue as zod 3 does, which also tells what it received."""
    node, path, received = issue.node, list(issue.path), js_type(issue.value)
    if isinstance(node, Either):
        nested = [{"issues": [zod3(inner) for inner in option], "name": "ZodError"} for option in issue.nested]
        return {"code": "invalid_union", "unionErrors": nested, "path": path, "message": "Invalid input"}
    if isinstance(node, Choice) and received == "string":
        choices = " | ".join(f"'{value}'" for value in node.values)
        message = f"Invalid enum value. Expected {choices}, received '{issue.value}'"
        options = list(node.values)
        return {
            "received": issue.value,
            "code": "invalid_enum_value",
            "options": options,
            "path": path,
            "message": message,
        }
    if isinstance(node, Choice) or issue.flaw == "type":
        expected = expected_type(node).replace("record", "object")
        if isinstance(node, Choice):
            expected = " | ".join(f"'{value}'" for value in node.values)
        message = "Required" if issue.value is ABSENT else f"Expected {expected}, received {received}"
        return {
            "code": "invalid_type",
            "expected": expected,
            "received": received,
            "path": path,
            "message": message,
        }
    assert isinstance(node, Text)  # noqa: S101 - only texts have a format or a length
    if issue.flaw == "length":
        return {
            "code": "too_big",
            "maximum": node.longest,
            "type": "string",
            "inclusive": True,
            "exact": False,
            "message": f"String must contain at most {node.longest} character(s)",
            "path": path,
        }
    return {
        "validation": node.format,
        "code": "invalid_string",
        "message": f"Invalid {node.format}",
        "path": path,
    }
