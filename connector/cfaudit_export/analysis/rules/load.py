"""Settings -> the rules that count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cfaudit_export.analysis.rules.model import Rule, RuleSet
from cfaudit_export.analysis.rules.own import read_own
from cfaudit_export.analysis.rules.shipped import SHIPPED
from cfaudit_export.core.suggest import nearest
from cfaudit_export.errors import SettingsError
from cfaudit_export.settings.rules import RuleSettings

_MOST = 62  # as many as a number has bits


def load_rules(settings: RuleSettings) -> RuleSet:
    """Return the rules that come with the program and those of the user's folder, as the settings want them.

    Raises:
        SettingsError: a rule of the folder is wrong, or the settings name one that is not there.
    """
    rules = list(SHIPPED)
    own = tuple(read_own(settings.folder)) if settings.folder else ()
    for one in own:
        if any(one.id == other.id for other in rules):
            raise SettingsError(f"rule '{one.id}' in '{settings.folder}' has the id of another one; give it its own")
        rules.append(one)
    if len(own) + len(SHIPPED) > _MOST:
        raise SettingsError(f"rules.folder has more than {_MOST - len(SHIPPED)} rules; make one rule of several")
    known = [one.id for one in rules]
    _require("rules.disable", settings.disable, known)
    _require("rules.severity", settings.severity, known)
    _require("rules.mute", (one.rule for one in settings.mute), known)
    chosen = tuple(_set(one, settings) for one in rules if one.id not in settings.disable)
    return RuleSet(chosen, settings.known_addresses, settings.known_tokens, settings.mute, tuple(settings.severity))


def _require(key: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise SettingsError(f"'{key}' names no rule: '{name}'{nearest(name, known)}")


def _set(rule: Rule, settings: RuleSettings) -> Rule:
    return replace(rule, severity=settings.severity.get(rule.id, rule.severity))
