"""Settings and plugins -> sources, sinks and store that fit together.

Whatever can be found wrong without asking a server is found before anything is connected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfaudit_export.app.credentials import credential_of, require_credential
from cfaudit_export.app.resolve import (
    check_names,
    offered_sources,
    open_signed_store,
    request_of,
    require_named_host,
    resolve_sink,
    resolve_source,
    secrets_of,
    server_url_of,
)
from cfaudit_export.app.transforms import transforms_of
from cfaudit_export.core.identity_key import IdentityKey, load_identity_key
from cfaudit_export.core.model import Connection, Stream, Window, floor_ms
from cfaudit_export.core.redaction import Redaction
from cfaudit_export.errors import AccountChoiceError, SettingsError
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.plugin.interfaces import CheckpointStore, Sink, Source
from cfaudit_export.plugin.records import Credential, Recover, SinkPlugin, SourceContext, SourcePlugin
from cfaudit_export.plugin.resources import SharedResources
from cfaudit_export.settings import Settings
from cfaudit_export.settings.secret_values import secret_values, secret_variables
from cfaudit_export.stores.guarded import GuardedStore

if TYPE_CHECKING:
    from cfaudit_export.pipeline.run_context import RunProgress, Trace
    from cfaudit_export.pipeline.transform import Transforms
    from cfaudit_export.plugin.registry import Plugins


@dataclass(frozen=True, slots=True)
class RunListeners:
    """Who is told how a run gets on: counters of the source, the progress of the run, and its steps."""

    counters: Callable[[dict[str, Any]], None] = lambda _counters: None
    progress: Callable[[RunProgress], None] = lambda _progress: None
    trace: Trace = lambda _step: nullcontext({})


@dataclass(frozen=True, slots=True)
class Assembly:
    """All that runs are made of; nothing in it is connected yet.

    Attributes:
        settings: what is wanted.
        plugins: what is installed; its observers hear of every load and run.
        source: the chosen source and its settings.
        sinks: the chosen sinks and their settings, by name.
        transforms: what is applied to events.
        identity: what makes the keys of events; None for keys that need no secret.
        store: holds the checkpoints.
        credential: who we are.
        clock: the time, aware and UTC.
        asked_source: the source that the settings name, `auto` included.
        environ: the variables; what observes runs takes its own from there.
        shared: what all sources share that use the credential.
        redact: returns a text without the secrets that are known so far.
        request: what each run is asked for.
        filler: the same with the source that fills gaps, None without one.
        otherwise: the same with the source that goes on when this one is gone, where the settings leave the choice;
            see `cfaudit_export.app.failover`.
    """

    settings: Settings
    plugins: Plugins
    source: tuple[SourcePlugin, Any] = field(repr=False)
    sinks: Mapping[str, tuple[SinkPlugin, Any]] = field(repr=False)
    transforms: Transforms
    identity: IdentityKey | None
    store: CheckpointStore
    credential: Credential
    clock: Callable[[], datetime]
    asked_source: str = ""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    shared: SharedResources = field(default_factory=SharedResources, repr=False)
    redact: Callable[[str], str] = field(default=str, repr=False)
    request: RunRequest = field(default_factory=RunRequest)
    filler: Assembly | None = None
    otherwise: Assembly | None = None

    @property
    def source_name(self) -> str:
        """Return the name of the source, as the checkpoint has it."""
        return self.source[0].name

    @property
    def server_url(self) -> str:
        """Return the URL of the source's server, empty for a source without one."""
        return server_url_of(self.source)

    @property
    def destinations(self) -> dict[str, str]:
        """Return where each sink delivers to, as it names it."""
        return {name: plugin.destination(config) for name, (plugin, config) in self.sinks.items() if plugin.destination}

    @property
    def staging(self) -> Path:
        """Return the folder for staged batches."""
        return self.settings.state_dir / "staging"

    def stream(self, account: str) -> Stream:
        """Return the stream of an account."""
        settings = self.settings
        part = None
        if settings.slice and settings.since and settings.until:
            part = Window(floor_ms(settings.since), floor_ms(settings.until))
        plugin, _ = self.source
        return Stream(account, plugin.name, tuple(sorted(settings.filters.items())), plugin.log, part)


def compose(
    settings: Settings,
    plugins: Plugins,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None] = lambda _secret: None,
) -> Assembly:
    """Fit everything together.

    Args:
        settings: what is wanted.
        plugins: what is installed.
        environ: the variables; the token is one of them.
        clock: the time, aware and UTC.
        hide: told of every secret that is found.

    Raises:
        PluginError: one that is named is missing, broken or in conflict.
        SettingsError: the settings of one do not fit it.
        AccessError: there is no credential.
    """
    redact = Redaction()
    hide = _both(hide, redact.hide)
    for secret in (*secret_variables(environ), *secret_values(settings, environ)):
        hide(secret)
    check_names(settings, plugins)
    first, *others = offered_sources(settings, plugins)
    chosen = settings.using(first)
    source = resolve_source(chosen, plugins)
    sinks = {name: resolve_sink(settings, plugins, name) for name in settings.sink}
    for _, config in (source, *sinks.values()):
        for secret in secrets_of(config):
            hide(secret)
    credential = credential_of(chosen, source, environ=environ, clock=clock, hide=hide)
    assembly = Assembly(
        settings=chosen,
        plugins=plugins,
        source=source,
        sinks=sinks,
        transforms=transforms_of(settings, plugins),
        identity=load_identity_key(key_file) if (key_file := settings.identity.key_file) else None,
        store=GuardedStore(open_signed_store(settings, plugins), redact, clock),
        credential=credential,
        clock=clock,
        redact=redact,
        environ=environ,
        asked_source=settings.source,
        request=request_of(settings),
    )
    if (filler := settings.fill_gaps_from) is not None:
        assembly = dataclasses.replace(assembly, filler=_filler(assembly, filler, environ=environ, hide=hide))
    for name in others:
        other = _beside(assembly, settings.using(name), environ=environ, hide=hide)
        assembly = dataclasses.replace(assembly, otherwise=other)
    require_credential(assembly.credential, *([assembly.otherwise.credential] if assembly.otherwise else []))
    return assembly


def _both(*hiding: Callable[[str], None]) -> Callable[[str], None]:
    def hide(secret: str) -> None:
        for one in hiding:
            one(secret)

    return hide


@contextmanager
def connected(
    assembly: Assembly, account: str, listeners: RunListeners | None = None
) -> Iterator[tuple[Source, Connection]]:
    """Yield the source of an account, connected; it is closed with the context.

    Raises what `Source.connect` raises.
    """
    wait, recover = assembly.settings.max_wait, dict(assembly.settings.recover)
    context = SourceContext(
        stream=assembly.stream(account),
        credential=assembly.credential,
        clock=assembly.clock,
        progress=(listeners or RunListeners()).counters,
        recover=Recover(recover.pop("mode"), recover),
        max_wait_seconds=None if wait is None else wait.total_seconds(),
        shared=assembly.shared,
    )
    plugin, config = assembly.source
    if filler := assembly.filler:
        from cfaudit_export.app.fallback import FallbackSource

        source: Source = FallbackSource(
            lambda is_filling: plugin.build(config, dataclasses.replace(context, has_filler=is_filling)),
            filler.settings.source,
            lambda found: connected(filler, found.account_id),
        )
    else:
        source = plugin.build(config, context)
    try:
        yield source, source.connect()
    except AccountChoiceError:
        raise
    except BaseException:
        assembly.shared.close()  # whatever is wrong with a session, the next account is not to suffer from it
        raise
    finally:
        source.close()


@contextmanager
def opened_sinks(assembly: Assembly) -> Iterator[dict[str, Sink]]:
    """Yield the sinks; they are closed with the context."""
    with ExitStack() as stack:
        sinks = {}
        for name, (plugin, config) in assembly.sinks.items():
            sinks[name] = plugin.build(config)
            stack.callback(sinks[name].close)
        yield sinks


def _filler(assembly: Assembly, name: str, *, environ: Mapping[str, str], hide: Callable[[str], None]) -> Assembly:
    """Return an assembly with the source that fills gaps.

    Raises:
        SettingsError: it cannot fill gaps of the first source, or the credential would go to a host that is not named.
    """
    first, _ = assembly.source
    recover = {"mode": assembly.settings.recover["mode"]}
    settings = dataclasses.replace(assembly.settings, source=name, fill_gaps_from=None, recover=recover)
    filler = _beside(assembly, settings, environ=environ, hide=hide)
    second, _ = filler.source
    if (second.log or name) != (first.log or first.name) or name == first.name:
        raise SettingsError(f"source '{name}' cannot fill gaps of '{first.name}': it reads another log, or is the same")
    require_named_host(assembly.source, filler.source)
    return filler


def _beside(
    assembly: Assembly, settings: Settings, *, environ: Mapping[str, str], hide: Callable[[str], None]
) -> Assembly:
    """Return the assembly with another source, which may fail alone: also by having no credential."""
    source = resolve_source(settings, assembly.plugins)
    for secret in secrets_of(source[1]):
        hide(secret)
    credential = credential_of(settings, source, environ=environ, clock=assembly.clock, hide=hide)
    shared = assembly.shared.beside()
    return dataclasses.replace(assembly, settings=settings, source=source, credential=credential, shared=shared)
