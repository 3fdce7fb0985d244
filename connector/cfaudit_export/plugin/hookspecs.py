"""The hooks. A hook announces what a plugin can build; the data path never runs through one.

A plugin is a module named by an entry point of the group `cfaudit_export`. It must be light: it is imported whenever
plugins are listed, so a heavy library belongs inside `build`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from cfaudit_export.core.model import Batch, Receipt, RunReport
    from cfaudit_export.plugin.records import CheckpointStorePlugin, SinkPlugin, SourcePlugin, TransformPlugin

PROJECT = "cfaudit_export"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def cfaudit_sources() -> Iterable[SourcePlugin]:  # type: ignore[empty-body]  # a spec has no body
    """Offer sources.

    Example:
        @hookimpl
        def cfaudit_sources():
            yield SourcePlugin("replay", ReplayConfig, build_replay, "reads events from files")
    """


@hookspec
def cfaudit_sinks() -> Iterable[SinkPlugin]:  # type: ignore[empty-body]  # a spec has no body
    """Offer sinks.

    Example:
        @hookimpl
        def cfaudit_sinks():
            yield SinkPlugin("csv", CsvConfig, build_csv, "appends to CSV files")
    """


@hookspec
def cfaudit_checkpoint_stores() -> Iterable[CheckpointStorePlugin]:  # type: ignore[empty-body]  # a spec has no body
    """Offer checkpoint stores.

    Example:
        @hookimpl
        def cfaudit_checkpoint_stores():
            yield CheckpointStorePlugin("redis", RedisConfig, build_redis, "keeps checkpoints in Redis")
    """


@hookspec
def cfaudit_transforms() -> Iterable[TransformPlugin]:  # type: ignore[empty-body]  # a spec has no body
    """Offer transforms: redact, drop or enrich events after mapping. The schema may not change.

    Example:
        @hookimpl
        def cfaudit_transforms():
            yield TransformPlugin("hide-ip", HideConfig, build_hide, "blanks IP addresses")
    """


@hookspec
def cfaudit_after_load(batch: Batch, receipt: Receipt) -> None:
    """Observe that a batch is durable in a sink. One that fails is logged and changes nothing.

    Example:
        @hookimpl
        def cfaudit_after_load(batch, receipt):
            statsd.increment("audit.rows", receipt.rows)
    """


@hookspec
def cfaudit_after_run(report: RunReport) -> None:
    """Observe that a run of one stream ended, well or not. One that fails is logged and changes nothing.

    Example:
        @hookimpl
        def cfaudit_after_run(report):
            if report.gaps:
                page_somebody(len(report.gaps))
    """
