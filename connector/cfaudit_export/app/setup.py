"""Answers of a person -> the text of a settings file, with a comment for each key."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cfaudit_export.errors import UsageError
from cfaudit_export.settings import AUTO

if TYPE_CHECKING:
    from cfaudit_export.plugin.registry import Plugins

_COLUMNS = 78
_HEAD = """\
# Settings of cfaudit-export, written by 'cfaudit-export init'.
# 'cfaudit-export run --help' lists further keys; relative paths lie beside this file.
"""
_SINK = "Where the events go. There may be several sinks; each has its own progress."
_SOURCE = (
    'Where they come from: "codemode" (whole records), "auditlogs" (six fields of each event, other columns rebuilt), '
    'or "auto", which chooses "codemode" if the credential can use it.'
)
_TOKEN = "The API token is in this file, which only you can read. CLOUDFLARE_API_TOKEN is used instead if it is set."  # noqa: S105  # a comment
_WITHOUT_IT = (
    "The API token is in CLOUDFLARE_API_TOKEN, or in a file that only you can read; without either, sign in with "
    "'cfaudit-export login'."
)
_STATE = "Checkpoints and staged batches: protect this folder like the exported events, and keep it."
_ACCOUNT = "Accounts to export; needed only if the credential has several."


class MissingAnswerError(UsageError):
    """A sink cannot do without a setting that was not given."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a settings file is to say.

    Attributes:
        sinks: names of the sinks.
        source: name of the source, or `auto`.
        more: further keys, nested as in TOML.
    """

    sinks: tuple[str, ...]
    source: str = AUTO
    more: Mapping[str, Any] = field(default_factory=dict)

    def with_values(self, values: Mapping[str, str]) -> Answers:
        """Return the answers with further values, by dotted key."""
        more = json.loads(json.dumps(self.more))
        for key, value in values.items():
            *tables, last = key.split(".")
            table = more
            for name in tables:
                table = table.setdefault(name, {})
            table[last] = value
        return replace(self, more=more)


def required_keys(answers: Answers, plugins: Plugins) -> Iterator[tuple[str, str]]:
    """Yield the keys that the sinks cannot do without and that are not given, each with what it is."""
    for name in answers.sinks:
        config = plugins.sink(name).config
        given = answers.more.get("sinks", {}).get(name, {})
        about = _attributes(config)
        for one in dataclasses.fields(config):
            if one.default is one.default_factory is dataclasses.MISSING and one.name not in given:
                yield f"sinks.{name}.{one.name}", about.get(one.name, "")


def settings_text(answers: Answers, plugins: Plugins, *, token_file: str | None) -> str:
    """Return the text of a TOML file.

    Args:
        answers: what it is to say.
        plugins: what is installed.
        token_file: the file that has the token, None without one.
    """
    more = dict(answers.more)
    tables = {name: more.pop(name) for name in list(more) if isinstance(more[name], dict)}
    token = f'token_file = "{token_file}"' if token_file else '# token_file = "token"'
    state = more.pop("state_dir", "state")
    parts = [
        _HEAD,
        _said(_SINK, f"sink = {_toml(list(answers.sinks))}"),
        _said(_SOURCE, f"source = {_toml(answers.source)}"),
        _said(_TOKEN if token_file else _WITHOUT_IT, token),
        _said(_STATE, f"state_dir = {_toml(state)}"),
    ]
    if "account" not in more:
        parts.append(_said(_ACCOUNT, '# account = ["0123456789abcdef0123456789abcdef"]'))
    parts += [f"{key} = {_toml(value)}\n" for key, value in more.items()]
    sinks = tables.pop("sinks", {})
    parts += [_of_sink(name, sinks.pop(name, {}), plugins) for name in answers.sinks]
    parts += _tables({"sinks": sinks} if sinks else {}) + _tables(tables)
    return "\n".join(parts)


def _of_sink(name: str, given: Mapping[str, Any], plugins: Plugins) -> str:
    """Return the table of a sink: what is given, and as a comment what else can be set."""
    config = plugins.sink(name).config
    about = _attributes(config)
    lines = [f"[sinks.{name}]\n"]
    lines += [_said(about.get(key, ""), f"{key} = {_toml(value)}") for key, value in given.items()]
    others = [one.name for one in dataclasses.fields(config) if one.name not in given]
    if others:
        lines.append(_comment(f"Also: {', '.join(others)}."))
    return "".join(lines)


def _tables(tree: Mapping[str, Any], above: str = "") -> list[str]:
    found = []
    for name, value in tree.items():
        plain = {key: one for key, one in value.items() if not isinstance(one, dict)}
        if plain:
            found.append(f"[{above}{name}]\n" + "".join(f"{key} = {_toml(one)}\n" for key, one in plain.items()))
        found += _tables({key: one for key, one in value.items() if isinstance(one, dict)}, f"{above}{name}.")
    return found


def _said(about: str, line: str) -> str:
    return f"{_comment(about)}{line}\n" if about else f"{line}\n"


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, _COLUMNS))


def _toml(value: Any) -> str:
    """Return a value as TOML writes it; a text of JSON is one of TOML, too."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _attributes(config: type) -> dict[str, str]:
    """Return what the docstrings of a plugin's settings, and of their bases, say of each of them."""
    found: dict[str, str] = {}
    for one in reversed(config.__mro__):
        section = (inspect.getdoc(one) or "").partition("Attributes:\n")[2]
        said = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, re.MULTILINE | re.DOTALL)
        found |= {name: " ".join(text.split()) for name, text in said}
    return found
