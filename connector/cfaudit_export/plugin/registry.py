"""Entry points of the group `cfaudit_export` in, what they offer by name out; broken ones and conflicts are named.

Listing is lenient and asking is strict: a plugin that cannot be used is recorded, and raised when it is asked for.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from operator import itemgetter
from pathlib import Path
from traceback import extract_tb
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import pluggy

from cfaudit_export.core.model import Batch, Receipt, RunReport
from cfaudit_export.core.suggest import nearest
from cfaudit_export.errors import CfauditError, PluginError
from cfaudit_export.plugin import hookspecs
from cfaudit_export.plugin.config import to_config
from cfaudit_export.plugin.loader import callers, load_isolated, offered
from cfaudit_export.plugin.records import CheckpointStorePlugin, SinkPlugin, SourcePlugin, TransformPlugin

DISABLED = "CFAUDIT_DISABLED_PLUGINS"

Record = SourcePlugin | SinkPlugin | CheckpointStorePlugin | TransformPlugin
R = TypeVar("R", bound=Record)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a plugin comes from: the entry point's name, the distribution and its version, the module.

    The distribution is what `pip uninstall` takes.
    """

    entry_point: str
    distribution: str
    version: str
    module: str

    @property
    def package(self) -> str:
        """Return distribution and version, as a person wants to read them."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class Offer(Origin, Generic[R]):
    """A record and where it comes from."""

    record: R


@dataclass(frozen=True, slots=True)
class Broken(Origin):
    """A plugin that cannot be used, and why in one line."""

    error: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A name that is offered more than once, and therefore can be used by none."""

    kind: str
    name: str
    offers: tuple[Offer[Any], ...]


@dataclass(frozen=True, slots=True)
class LoadedPlugin(Origin):
    """A plugin in working order, and the manager that holds it and nothing else."""

    manager: pluggy.PluginManager = field(repr=False, compare=False)

    @property
    def hooks(self) -> tuple[str, ...]:
        """Return the names of the hooks that it implements, sorted."""
        return tuple(sorted(caller.name for caller in callers(self.manager)))


@dataclass(frozen=True, slots=True)
class Plugins:
    """All that is installed.

    Attributes:
        sources: offers by name; a name in conflict is not there. Likewise `sinks`, `stores`, `transforms`.
        loaded: plugins in working order, observers among them.
        broken: plugins that cannot be used; fatal only when one of them is asked for.
        conflicts: names offered more than once.
        disabled: plugins switched off by `CFAUDIT_DISABLED_PLUGINS`; they were not imported.
    """

    sources: Mapping[str, Offer[SourcePlugin]]
    sinks: Mapping[str, Offer[SinkPlugin]]
    stores: Mapping[str, Offer[CheckpointStorePlugin]]
    transforms: Mapping[str, Offer[TransformPlugin]]
    loaded: tuple[LoadedPlugin, ...] = ()
    broken: tuple[Broken, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    disabled: tuple[Origin, ...] = ()
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def source(self, name: str) -> SourcePlugin:
        """Return the source of this name.

        Raises:
            PluginError: it is unknown, broken, in conflict, or lacks a library; the message says what to do.
        """
        return self._find("source", self.sources, name)

    def sink(self, name: str) -> SinkPlugin:
        """Return the sink of this name. Raises what `source` raises."""
        return self._find("sink", self.sinks, name)

    def store(self, name: str) -> CheckpointStorePlugin:
        """Return the checkpoint store of this name. Raises what `source` raises."""
        return self._find("checkpoint store", self.stores, name)

    def transform(self, name: str) -> TransformPlugin:
        """Return the transform of this name. Raises what `source` raises."""
        return self._find("transform", self.transforms, name)

    def after_load(self, batch: Batch, receipt: Receipt) -> None:
        """Tell every observer that a batch is durable; one that fails is logged and changes nothing."""
        self._tell("cfaudit_after_load", batch=batch, receipt=receipt)

    def after_run(self, report: RunReport) -> None:
        """Tell every observer that a run ended; one that fails is logged and changes nothing."""
        self._tell("cfaudit_after_run", report=report)

    def _find(self, kind: str, offers: Mapping[str, Offer[R]], name: str) -> R:
        if offer := offers.get(name):
            if missing := missing_requirements(offer):
                raise PluginError(
                    f"{kind} '{name}' needs {', '.join(missing)}, which is not installed; "
                    f"run: pip install '{offer.distribution}[{offer.record.extra}]'"
                )
            return offer.record
        for conflict in self.conflicts:
            if (conflict.kind, conflict.name) == (kind, name):
                rivals = " and ".join(f"{rival.package} ({rival.module})" for rival in conflict.offers)
                raise PluginError(f"{kind} '{name}' is offered more than once, by {rivals}; uninstall all but one")
        for plugin in self.broken:
            if plugin.entry_point == name:
                raise PluginError(
                    f"plugin '{name}' of {plugin.package} is broken, repair or upgrade it: {plugin.error}"
                )
        raise PluginError(self._unknown(kind, offers, name))

    def _unknown(self, kind: str, offers: Mapping[str, Offer[R]], name: str) -> str:
        text = f"no {kind} '{name}' is installed{nearest(name, offers)} (installed: {', '.join(offers) or 'none'}"
        if self.broken:
            text += f"; broken: {', '.join(plugin.entry_point for plugin in self.broken)}"
        if self.disabled:
            text += f"; switched off by {DISABLED}: {', '.join(plugin.entry_point for plugin in self.disabled)}"
        return text + ")"

    def _tell(self, hook: str, **facts: object) -> None:
        for plugin in self.loaded:
            try:
                with self._turn:  # accounts may be exported side by side
                    getattr(plugin.manager.hook, hook)(**facts)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  # an observer may not even end the process
                # The text of the error is left out: an observer has seen the events.
                frame = extract_tb(error.__traceback__)[-1]
                _LOG.warning(
                    "observer failed",
                    extra={
                        "plugin": plugin.entry_point,
                        "distribution": plugin.distribution,
                        "hook": hook,
                        "error": type(error).__name__,
                        "at": f"{Path(frame.filename).name}:{frame.lineno}",
                    },
                )


def load_plugins(
    entry_points: Iterable[metadata.EntryPoint] | None = None, *, environ: Mapping[str, str] = os.environ
) -> Plugins:
    """Import every installed plugin and collect what it offers; no plugin can stop another, or this.

    Args:
        entry_points: those to load, by default all of the group `cfaudit_export`.
        environ: `CFAUDIT_DISABLED_PLUGINS` there names entry points, separated by commas, to leave alone.
    """
    if entry_points is None:
        entry_points = metadata.entry_points(group=hookspecs.PROJECT)
    off = {name.strip() for name in environ.get(DISABLED, "").split(",")}
    offers: dict[tuple[str, str], list[Offer[Any]]] = {}
    loaded: list[LoadedPlugin] = []
    broken: list[Broken] = []
    disabled: list[Origin] = []
    for origin, entry_point in sorted(((_origin(one), one) for one in entry_points), key=itemgetter(0)):
        if origin.entry_point in off:
            disabled.append(origin)
            continue
        facts = dataclasses.asdict(origin)
        try:
            manager = load_isolated(entry_point)
            records = list(offered(manager))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # a plugin may even call sys.exit while it is imported
            broken.append(Broken(**facts, error=_one_line(error)))
            continue
        loaded.append(LoadedPlugin(**facts, manager=manager))
        for kind, record in records:
            offers.setdefault((kind, record.name), []).append(Offer(**facts, record=record))
    return Plugins(
        sources=_of_kind(offers, "source"),
        sinks=_of_kind(offers, "sink"),
        stores=_of_kind(offers, "checkpoint store"),
        transforms=_of_kind(offers, "transform"),
        loaded=tuple(loaded),
        broken=tuple(broken),
        conflicts=tuple(Conflict(*key, tuple(rivals)) for key, rivals in sorted(offers.items()) if len(rivals) > 1),
        disabled=tuple(disabled),
    )


def build_config(record: Record, table: Mapping[str, Any], where: str, *, strict: bool = True) -> Any:
    """Return the plugin's settings from its table; see `cfaudit_export.plugin.config.to_config`.

    Raises:
        SettingsError: a key is unknown or missing, or a value does not fit.
    """
    return to_config(record.config, table, where, strict=strict)


def missing_requirements(offer: Offer[Any]) -> tuple[str, ...]:
    """Return the requirements of the offer's extra that are not installed, as its distribution states them."""
    extra = offer.record.extra
    if extra is None:
        return ()
    from packaging.requirements import Requirement

    try:
        stated = metadata.requires(offer.distribution) or []
    except metadata.PackageNotFoundError:  # its metadata is lost: let it be tried
        return ()
    missing = []
    for text in stated:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            try:
                fits = requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
            except metadata.PackageNotFoundError:
                fits = False
            if not fits:
                missing.append(f"{requirement.name}{requirement.specifier}")
    return tuple(missing)


def _origin(entry_point: metadata.EntryPoint) -> Origin:
    name: str | None = None
    version: str | None = None
    # An install that was cut off leaves metadata that answers None, or fails, differently in each Python.
    with suppress(Exception):
        name, version = entry_point.dist.name, entry_point.dist.version  # type: ignore[union-attr]  # suppressed
    return Origin(entry_point.name, name or "unknown", version or "unknown", entry_point.value.partition(":")[0])


def _of_kind(offers: Mapping[tuple[str, str], list[Offer[Any]]], wanted: str) -> Mapping[str, Offer[Any]]:
    alone = {name: found[0] for (kind, name), found in sorted(offers.items()) if kind == wanted and len(found) == 1}
    return MappingProxyType(alone)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, CfauditError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
