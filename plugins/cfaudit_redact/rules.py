"""The texts of rules -> rules that fit the schema; one that cannot match anything is refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from cfaudit_export import SettingsError
from cfaudit_export.schema import COLUMNS
from cfaudit_redact.config import ACTIONS, PRESETS, RedactConfig
from cfaudit_redact.paths import PathRule, Places, parse_path, places_of, rule_at, step, tree_of

KINDS = {column.name: column.kind for column in COLUMNS}
FIXED = frozenset(
    {"event_id", "event_key", "event_time", "account_id", "fidelity", "source", "ingested_at", "replaces", "batch_id"}
)
"""Columns that say which event a row is; no transform may change them."""

# Where the event as received has what a column has: in whole records, and in the six-field form.
_ALSO_IN = {
    "actor_email": (("actor", "email"), ("actor_email",)),
    "actor_id": (("actor", "id"), ("actor_id",)),
    "actor_ip_address": (("actor", "ip_address"), ("actor_ip_address",)),
    "actor_token_name": (("actor", "token_name"), ("actor", "token", "name"), ("actor_token_name",)),
}


def rules_of(config: RedactConfig) -> list[PathRule]:
    """Return the rules of the settings.

    Raises:
        SettingsError: one names a column that is not there or may not be changed, or its path is none.
    """
    rules: list[PathRule] = []
    for action in ACTIONS:
        preset = PRESETS[config.preset].get(action, ()) if config.preset else ()
        for text in config.rules(action):
            try:
                rules += _parsed(action, text, is_own=text not in preset)
            except ValueError as error:
                raise SettingsError(f"'transforms.redact.{action}': {error}") from None
    _require_hidden_everywhere(config, rules)
    return rules


def _parsed(action: str, text: str, *, is_own: bool) -> Iterable[PathRule]:
    column, colon, rest = text.partition(":")
    column = column.strip()
    if column not in KINDS:
        near = get_close_matches(column, KINDS, n=1)
        raise ValueError(f"unknown column '{column}'" + (f"; did you mean '{near[0]}'?" if near else ""))
    if column in FIXED:
        raise ValueError(f"'{column}' says which event a row is, and stays as it is")
    is_json = KINDS[column] == "json"
    if colon and not is_json:
        raise ValueError(f"'{column}' holds no JSON, so '{text}' leads nowhere; name the column alone")
    if action == "keep" and not colon:
        raise ValueError(f"'{text}' needs paths, as in '{column}: id, result.id'")
    if not colon and is_json and action != "drop":
        raise ValueError(f"'{text}' needs a path, as in '{column}:actor.email', or is to be dropped")
    if KINDS[column] == "int32" and action != "drop":
        raise ValueError(f"'{column}' holds a number; it can be dropped")
    paths = _split(rest) if action == "keep" else [rest.strip()] if colon else []
    if not paths:
        return [PathRule(action, text, column, (), is_own)]
    return [PathRule(action, text, column, parse_path(path), is_own) for path in paths]


def _split(text: str) -> list[str]:
    """Return the paths between commas, but for commas in quotes."""
    paths, inside = [""], False
    for at, character in enumerate(text):
        if character == '"' and not (at and text[at - 1] == "\\"):
            inside = not inside
        if character == "," and not inside:
            paths.append("")
        else:
            paths[-1] += character
    return [path.strip() for path in paths]


def _require_hidden_everywhere(config: RedactConfig, rules: list[PathRule]) -> None:
    """Refuse to hide a column whose value still stands in the event as received."""
    whole = [rule for rule in rules if not rule.path]
    if any(rule.column == "event_raw" for rule in whole):
        return
    hiding = places_of([tree_of(rule for rule in rules if rule.column == "event_raw" and rule.action != "keep")])
    kept = [rule for rule in rules if rule.column == "event_raw" and rule.action == "keep"]
    keeping = places_of([tree_of(kept)]) if kept else None
    for rule in whole:
        for path in _ALSO_IN.get(rule.column, ()):
            if rule.column == "actor_email" and "email" in config.rules("scrub"):
                continue
            if _ends(hiding, path) or (keeping is not None and not _ends(keeping, path)):
                continue
            raise SettingsError(
                f"'transforms.redact.{rule.action}' hides {rule.column}, but event_raw still shows it; name "
                f"'event_raw:{'.'.join(path)}' too, or drop event_raw"
            )


def _ends(places: Places, path: tuple[str, ...]) -> bool:
    """Say whether a rule is met on the way along a path."""
    for name in path:
        places = step(places, name)
        if rule_at(places):
            return True
    return False
