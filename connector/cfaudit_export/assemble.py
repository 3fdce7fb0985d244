"""Settings and plugins -> sources, sinks and store that fit together, and the runs made with them.

Whatever can be found wrong without asking anybody is found before anything is connected.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfaudit_export.auth import credential_for
from cfaudit_export.auth.token import MissingCredential
from cfaudit_export.errors import (
    AccessError,
    AccountChoiceError,
    CfauditError,
    ExitCode,
    SettingsError,
    TryAgainError,
)
from cfaudit_export.fit import check_names, fit_sink, fit_source, fit_transform, open_store, secrets_of, server_url_of
from cfaudit_export.interfaces import CheckpointStore, Sink, Source
from cfaudit_export.model import Connection, RunReport, Stream, Window, floor_ms
from cfaudit_export.records import Credential, Recover, SinkPlugin, SourceContext, SourcePlugin
from cfaudit_export.settings import Settings
from cfaudit_export.shared import Shared

if TYPE_CHECKING:
    import pyarrow as pa

    from cfaudit_export.pipeline.job import Progress, Trace
    from cfaudit_export.plugins import Plugins

_LOG = logging.getLogger(__name__)
_COUNTERS = ("retries", "throttles", "waited_seconds")


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told how a run gets on: counters of the source, the progress of the run, and its steps."""

    counters: Callable[[dict[str, Any]], None] = lambda _counters: None
    progress: Callable[[Progress], None] = lambda _progress: None
    trace: Trace = lambda _step: nullcontext({})


@dataclass(frozen=True, slots=True)
class Workshop:
    """All that runs are made of; nothing in it is connected yet.

    Attributes:
        settings: what is wanted.
        plugins: what is installed; its observers hear of every load and run.
        source: the chosen source and its settings.
        sinks: the chosen sinks and their settings, by name.
        transforms: in the order in which they are applied.
        store: holds the checkpoints.
        credential: who we are.
        clock: the time, aware and UTC.
        shared: what all sources share that use the credential.
        only_gaps: read nothing but what earlier runs could not.
        latecomers: look for latecomers before `until`, too: the run is one in a row of intervals.
        filler: the same with the source that fills gaps, None without one.
    """

    settings: Settings
    plugins: Plugins
    source: tuple[SourcePlugin, Any] = field(repr=False)
    sinks: Mapping[str, tuple[SinkPlugin, Any]] = field(repr=False)
    transforms: tuple[Callable[[pa.Table], pa.Table], ...]
    store: CheckpointStore
    credential: Credential
    clock: Callable[[], datetime]
    shared: Shared = field(default_factory=Shared, repr=False)
    only_gaps: bool = False
    latecomers: bool = False
    filler: Workshop | None = None

    @property
    def server_url(self) -> str:
        """Return the URL of the source's server, empty for a source without one."""
        return server_url_of(self.source)

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


def assemble(
    settings: Settings,
    plugins: Plugins,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], datetime],
    hide: Callable[[str], None] = lambda _secret: None,
) -> Workshop:
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
    check_names(settings, plugins)
    source = fit_source(settings, plugins)
    sinks = {name: fit_sink(settings, plugins, name) for name in settings.sink}
    for _, config in (source, *sinks.values()):
        for secret in secrets_of(config):
            hide(secret)
    workshop = Workshop(
        settings=settings,
        plugins=plugins,
        source=source,
        sinks=sinks,
        transforms=tuple(fit_transform(settings, plugins, name) for name in settings.transform),
        store=open_store(settings, plugins),
        credential=credential_for(settings, server_url_of(source), environ=environ, clock=clock, hide=hide),
        clock=clock,
    )
    if (name := settings.fill_gaps_from) is None:
        return workshop
    return dataclasses.replace(workshop, filler=_filler(workshop, name, environ=environ, hide=hide))


@contextmanager
def connected(workshop: Workshop, account: str, watch: Watch | None = None) -> Iterator[tuple[Source, Connection]]:
    """Yield the source of an account, connected; it is closed with the context.

    Raises: as `Source.connect`.
    """
    wait, recover = workshop.settings.max_wait, dict(workshop.settings.recover)
    context = SourceContext(
        stream=workshop.stream(account),
        credential=workshop.credential,
        clock=workshop.clock,
        progress=(watch or Watch()).counters,
        recover=Recover(recover.pop("mode"), recover),
        max_wait_seconds=None if wait is None else wait.total_seconds(),
        shared=workshop.shared,
    )
    plugin, config = workshop.source
    source = plugin.build(config, context)
    if filler := workshop.filler:
        from cfaudit_export.pipeline.fill import FilledSource

        source = FilledSource(source, filler.settings.source, lambda found: connected(filler, found.account_id))
    try:
        yield source, source.connect()
    except AccountChoiceError:
        raise
    except BaseException:
        workshop.shared.close()  # whatever is wrong with a session, the next account is not to suffer from it
        raise
    finally:
        source.close()


@contextmanager
def opened_sinks(workshop: Workshop) -> Iterator[dict[str, Sink]]:
    """Yield the sinks; they are closed with the context."""
    with ExitStack() as stack:
        sinks = {}
        for name, (plugin, config) in workshop.sinks.items():
            sinks[name] = plugin.build(config)
            stack.callback(sinks[name].close)
        yield sinks


def export(workshop: Workshop, account: str, watch: Watch | None = None) -> RunReport:
    """Run one account once; what stops it is in the report, so that other accounts can follow."""
    watch = watch or Watch()
    counted: dict[str, Any] = {}

    def counters(facts: dict[str, Any]) -> None:
        counted.update(facts)
        watch.counters(facts)

    with watch.trace("run") as facts:
        report = _exported(workshop, account, dataclasses.replace(watch, counters=counters))
        extra = {name: value for name, value in counted.items() if name in _COUNTERS}
        report = dataclasses.replace(report, extra={**report.extra, **extra})
        facts.update(account=report.stream.account_id, source=report.stream.source, stream=report.stream.id)
        facts.update(exit_code=int(report.exit_code), events=report.events, calls=report.calls)
    if report.error:
        workshop.shared.close()
    workshop.plugins.after_run(report)
    return report


def _exported(workshop: Workshop, account: str, watch: Watch) -> RunReport:
    started_at = workshop.clock()
    try:
        with opened_sinks(workshop) as sinks, connected(workshop, account, watch) as (source, connection):
            return _run(workshop, sinks, source, connection, watch)
    except CfauditError as error:
        said, code, retry_after = str(error), error.exit_code, error.retry_after_seconds
    except Exception as error:  # noqa: BLE001  # a fault met with one account is not to stop the others
        _LOG.exception("fault in the program")
        said, code = f"{type(error).__name__}; please report this with the traceback above", ExitCode.BUG
        retry_after = None
    return RunReport(
        workshop.stream(account),
        started_at,
        workshop.clock(),
        None,
        error=said,
        exit_code=code,
        retry_after_seconds=retry_after,
    )


def _run(
    workshop: Workshop, sinks: Mapping[str, Sink], source: Source, connection: Connection, watch: Watch
) -> RunReport:
    from cfaudit_export.pipeline.job import Job
    from cfaudit_export.pipeline.ledger import require_same_name
    from cfaudit_export.pipeline.run import run_stream
    from cfaudit_export.pipeline.slices import Waiting, run_slice

    settings, stream = workshop.settings, workshop.stream(connection.account_id)
    watch.counters({"events": 0})  # connected: from here on there is something to count
    require_same_name(workshop.store, stream, is_named=bool(settings.account))
    job = Job(
        stream=stream,
        connection=connection,
        source=source,
        sinks=sinks,
        store=workshop.store,
        staging=workshop.staging,
        clock=workshop.clock,
        since=settings.since,
        until=settings.until,
        settle_lag=settings.settle_lag,
        rescan=settings.rescan,
        only_gaps=workshop.only_gaps,
        latecomers=workshop.latecomers,
        transforms=workshop.transforms,
        after_load=workshop.plugins.after_load,
        progress=watch.progress,
        trace=watch.trace,
    )
    return run_slice(job, Waiting.within(settings.max_wait)) if job.stream.slice else run_stream(job)


def _filler(workshop: Workshop, name: str, *, environ: Mapping[str, str], hide: Callable[[str], None]) -> Workshop:
    """Return a workshop with the source that fills gaps; that it has no credential stops nothing but the filling.

    Raises:
        SettingsError: it cannot fill gaps of the first source.
    """
    first, _ = workshop.source
    settings = dataclasses.replace(
        workshop.settings, source=name, fill_gaps_from=None, recover={"mode": workshop.settings.recover["mode"]}
    )
    second = fit_source(settings, workshop.plugins)
    if (second[0].log or name) != (first.log or first.name) or name == first.name:
        raise SettingsError(f"source '{name}' cannot fill gaps of '{first.name}': it reads another log, or is the same")
    for secret in secrets_of(second[1]):
        hide(secret)
    try:
        credential = credential_for(settings, server_url_of(second), environ=environ, clock=workshop.clock, hide=hide)
    except (AccessError, TryAgainError) as error:
        credential = MissingCredential(error)
    shared = workshop.shared.beside()
    return dataclasses.replace(workshop, settings=settings, source=second, credential=credential, shared=shared)
