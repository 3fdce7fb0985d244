"""Flags, `-o`, environment and TOML file in, one frozen `Settings` out; the first of them that says something wins.

options  the one table of what can be set
values   what was given for an option -> its value
layers   the places that say something, as trees
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cfaudit_export.core.model import iso
from cfaudit_export.errors import SettingsError, UsageError
from cfaudit_export.settings.alerts import AlertSettings
from cfaudit_export.settings.budget import Budget
from cfaudit_export.settings.folders import default_state_dir, find_file
from cfaudit_export.settings.identity import IdentitySettings
from cfaudit_export.settings.integrity import Integrity
from cfaudit_export.settings.layers import (
    PLUGIN_TABLES,
    Layer,
    Tree,
    file_layer,
    flag_layer,
    pair_layer,
    variable_layer,
)
from cfaudit_export.settings.options import DEFAULT_PROFILE, OPTIONS, Option
from cfaudit_export.settings.rules import RuleSettings
from cfaudit_export.settings.values import ALL_ACCOUNTS

AUTO_SOURCES = ("codemode", "auditlogs")
"""What `source = "auto"` chooses from, the preferred first. All read one log, so that each can go on for another."""

__all__ = [
    "ALL_ACCOUNTS",
    "AUTO",
    "OPTIONS",
    "AlertSettings",
    "Given",
    "IdentitySettings",
    "Integrity",
    "Option",
    "RuleSettings",
    "Settings",
    "default_state_dir",
    "load_settings",
]

AUTO = "auto"
# What a server URL, or a second source for gaps, is meant for where no source is named.
_USUAL_SOURCE = "auditlogs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is told to do. `OPTIONS` describes the attributes that are not listed here.

    Attributes:
        filters: filter of the tool to value.
        recover: how to rebuild what the source cuts off; `mode` is always there, other keys are filters of the
            source with values to look for.
        sources: settings of sources by name; options that are short for one of the source are in here.
        sinks: settings of sinks by name.
        transforms: settings of transforms by name.
        integrity: what is set about proof.
        budget: what is set about the budget of calls.
        identity: what is set about the identity of events.
        rules: what is set about rules.
        alert: what is set about alerts.
        checkpoint: settings of the checkpoint store; `store` is its name.
        file: the TOML file that was read, None without one.
        notices: what a person should know of the settings.
    """

    account: tuple[str, ...] = ()
    trust_account: bool = False
    source: str = AUTO
    fill_gaps_from: str | None = None
    sink: tuple[str, ...] = ()
    transform: tuple[str, ...] = ()
    adopt_destination: bool = False
    reset_proof: bool = False
    since: datetime | None = None
    until: datetime | None = None
    slice: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)
    state_dir: Path
    profile: str = DEFAULT_PROFILE
    token_file: Path | None = None
    token_keyring: str | None = None
    client_id: str | None = None
    client_secret_variable: str | None = None
    client_secret_file: Path | None = None
    scope: str | None = None
    redirect_port: int = 0
    grant_days: int | None = None
    oauth_resource: str = "send"
    oauth_registration_scope: str = "send"
    oauth_pkce: str = "listed"
    oauth_origins: tuple[str, ...] = ()
    keyring: str = "auto"
    fail_on_trimmed: bool = False
    settle_lag: timedelta = timedelta(minutes=5)
    rescan: timedelta = timedelta(hours=6)
    max_wait: timedelta | None = None
    parallel: int = 4
    budget: Budget = field(default_factory=Budget)
    recover: Mapping[str, Any] = field(default_factory=lambda: {"mode": "auto"})
    metrics_file: Path | None = None
    metrics_name: str | None = None
    otlp_endpoint: str | None = None
    ping_url: str | None = field(default=None, repr=False)
    integrity: Integrity = field(default_factory=Integrity)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    rules: RuleSettings = field(default_factory=RuleSettings)
    alert: AlertSettings = field(default_factory=AlertSettings)
    sql_memory_mb: int = 1024
    sql_threads: int | None = None
    sql_spill_mb: int = 10240
    log_format: str | None = None
    verbosity: int = 0
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    sinks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    transforms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    checkpoint: Mapping[str, Any] = field(default_factory=dict, repr=False)
    file: Path | None = None
    notices: tuple[str, ...] = ()

    @property
    def name_in_metrics(self) -> str:
        """Return what tells this export from others on one machine: its name, or that of its metrics file."""
        return self.metrics_name or (self.metrics_file.stem if self.metrics_file else "cfaudit-export")

    @property
    def named_accounts(self) -> tuple[str, ...]:
        """Return the accounts that are named; none where all are meant, or the one that the credential has."""
        return () if self.account == ALL_ACCOUNTS else self.account

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return the names of the sources that may read, the preferred first; `auto` has several.

        Where the settings name the server of one of them, only those whose server they name: the credential goes to
        no other host.
        """
        if self.source != AUTO:
            return (self.source,)
        named = tuple(name for name in AUTO_SOURCES if self.sources.get(name, {}).get("server_url"))
        return named or AUTO_SOURCES

    def using(self, source: str) -> Settings:
        """Return the settings with one source fixed."""
        return replace(self, source=source)

    @property
    def server_url(self) -> str | None:
        """Return the URL of the source's server, None for the source's own default."""
        return self.sources.get(self.candidates[0], {}).get("server_url")

    @property
    def header(self) -> Mapping[str, str]:
        """Return the further request headers: name to the variable that holds the value."""
        found = self.sources.get(self.candidates[0], {}).get("headers", {})
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line gave.

    Attributes:
        config: the file named by `--config`.
        pairs: the texts of `-o`, in order.
        flags: `Option.name` to the text, the list of texts, or the count.
    """

    config: Path | None = None
    pairs: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)


def load_settings(given: Given, *, environ: Mapping[str, str], now: datetime, directory: Path) -> Settings:
    """Return the settings: flags before `-o` before environment before file before defaults.

    Args:
        given: what the command line gave.
        environ: the variables.
        now: what relative times count from.
        directory: where `cfaudit.toml` is looked for, before the user's configuration folder.

    Raises:
        UsageError: a flag has a value it cannot have.
        SettingsError: a key is unknown, a value does not fit, the file cannot be read.
    """
    file = find_file(given.config, environ, directory)
    layers = [flag_layer(given.flags), pair_layer(given.pairs), variable_layer(environ), file_layer(file, directory)]
    said = [_read(layer, now) for layer in layers]
    if said[0].get("slice") and said[0].get("parallel", 1) > 1:
        raise UsageError("--slice is one time of one account; --parallel is for several accounts")
    source = next((one["source"] for one in said if "source" in one), None) or _source_meant(said)
    merged: Tree = {}
    for layer, values in reversed(list(zip(layers, said, strict=True))):
        tables = {name: layer.tree[name] for name in PLUGIN_TABLES if name in layer.tree}
        merged = _merge(_merge(merged, tables), _placed(values, AUTO_SOURCES if source == AUTO else (source,)))
    if source == AUTO:
        _refuse_half_a_choice(said)
    return replace(_settled(merged, source, file, now), notices=layers[-1].notices)


def _source_meant(said: Sequence[Mapping[str, Any]]) -> str:
    """Return the source where none is named: whichever can be used, unless another setting is about the usual one."""
    return _USUAL_SOURCE if any({"server_url", "fill_gaps_from"} & one.keys() for one in said) else AUTO


def _refuse_half_a_choice(said: Sequence[Mapping[str, Any]]) -> None:
    listed = ", ".join(AUTO_SOURCES)
    if any("server_url" in one for one in said):
        raise SettingsError(
            f"server_url is for one source, and '{AUTO}' chooses from {listed}; name the source, "
            f"or give each its own, as in -o sources.{AUTO_SOURCES[0]}.server_url=URL"
        )
    if any("fill_gaps_from" in one for one in said):
        raise SettingsError(f"fill_gaps_from needs a first source that is named, not '{AUTO}' (there are {listed})")


def _read(layer: Layer, now: datetime) -> dict[str, Any]:
    """Return the values of all options that a layer gives, by key."""
    values = {}
    for option in OPTIONS:
        given = _at(layer.tree, option.key)
        if given is None:
            continue
        try:
            values[option.key] = option.read(given, now)
        except ValueError as error:
            raise layer.error(f"{layer.named(option)}: {error}") from None
    return values


def _at(tree: Tree, key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _placed(values: Mapping[str, Any], sources: Sequence[str]) -> Tree:
    """Return the values as a tree, short forms at their long place, of each source that may read."""
    tree: Tree = {}
    for option in OPTIONS:
        if option.key not in values:
            continue
        short = [["sources", source, option.source_key] for source in sources] if option.source_key else []
        for path in short or [option.key.split(".")]:
            branch: Tree = tree
            for part in path[:-1]:
                branch = branch.setdefault(part, {})
            branch[path[-1]] = values[option.key]
    return tree


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tree:
    """Return both trees as one; where both say something, tables are merged and of values the one above counts."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _settled(merged: Tree, source: str, file: Path | None, now: datetime) -> Settings:
    since, until = merged.get("since"), merged.get("until")
    if since is not None and since > now:
        raise SettingsError(f"since lies in the future: {iso(since)}")
    if since is not None and until is not None and since >= until:
        raise SettingsError(f"since must be earlier than until, but {iso(since)} is not earlier than {iso(until)}")
    if merged.get("slice") and not (since and until):
        raise SettingsError("a slice needs since and until, as 'cfaudit-export plan --slices' gives them")
    merged = {
        **merged,
        "source": source,
        "recover": {"mode": "auto", **merged.get("recover", {})},
        "integrity": Integrity(**merged.get("integrity", {})),
        "budget": Budget(**merged.get("budget", {})),
        "identity": IdentitySettings(**merged.get("identity", {})),
        "rules": RuleSettings(**merged.get("rules", {})),
        "alert": AlertSettings(**merged.get("alert", {})),
        "state_dir": merged.get("state_dir") or default_state_dir(),
    }
    return Settings(**merged, file=file)
