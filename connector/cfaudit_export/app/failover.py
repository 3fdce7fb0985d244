"""`source = "auto"`: which source reads an account, and when another one goes on.

The choice is a fact of the stream: its checkpoint names the source that read last, and the next run reads by the same.
A stream that begins is read by the first source that the credential can use. Only a source that is gone for good gives
way to the other one, once in a run; one that is away for now is waited for as ever. All of them read one log, and the
checkpoint is that of the log, so that no event is delivered twice.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from cfaudit_export.app.compose import Assembly, connected
from cfaudit_export.core.model import RunReport, SinkReport, Stream
from cfaudit_export.errors import AccessError, CfauditError, ExitCode, ProtocolError, worst

_LOG = logging.getLogger(__name__)
COUNTERS = ("retries", "throttles", "waited_seconds")
_STREAMS = 20  # enough to see what a machine with one account does


def choose(assembly: Assembly, account: str) -> Assembly:
    """Return the assembly with the source that is to read an account; `otherwise` has the one to go on with.

    Args:
        assembly: as `compose` returns it.
        account: the account; empty for the one that the credential has.

    Raises what `Source.connect` raises, where neither source can be used, or it cannot be told now.
    """
    if assembly.otherwise is None:
        return assembly
    known = _source_of(assembly, account)
    if known is None:
        try:
            with connected(assembly, account) as (source, connection):
                known = _source_of(assembly, connection.account_id)
                if known is None:
                    source.probe()
        except (AccessError, ProtocolError) as error:
            other = swapped(assembly)
            facts = {"source": other.source_name, "account": account, "because": str(error)}
            _LOG.info("source chosen, the preferred one cannot be used", extra=facts)
            return other
    chosen = swapped(assembly) if known == assembly.otherwise.source_name else assembly
    _LOG.info("source chosen", extra={"source": chosen.source_name, "account": account, "known": known is not None})
    return chosen


def candidates(assembly: Assembly) -> Iterator[Assembly]:
    """Yield the assembly with each source that may read: first the one that has read, else the preferred one."""
    other = assembly.otherwise
    if other is None:
        yield assembly
        return
    both = (assembly, swapped(assembly))
    yield from both[::-1] if _source_of(assembly, "") == other.source_name else both


def swapped(assembly: Assembly) -> Assembly:
    """Return the assembly with its two sources in each other's places."""
    other = assembly.otherwise
    assert other is not None, "there is no other source"  # noqa: S101  # a fault of the caller
    # What runs are told to do may have been set since both were assembled.
    first = dataclasses.replace(assembly, otherwise=None)
    return dataclasses.replace(other, request=assembly.request, otherwise=first)


def is_gone(report: RunReport) -> bool:
    """Say whether a run ended because its server is no longer what this version was built for."""
    return report.exit_code is ExitCode.PROTOCOL


def joined(first: RunReport, second: RunReport, *, source: str) -> RunReport:
    """Return one report of a run that another source had to finish.

    Args:
        first: what the run did until its source was gone.
        second: what the other source did.
        source: the name of the other one.
    """
    gone = f"source '{first.stream.source}' is unavailable ({first.error})"
    counted = {name: first.extra.get(name, 0) + value for name, value in second.extra.items() if name in COUNTERS}
    report = dataclasses.replace(
        second,
        started_at=first.started_at,
        wanted=first.wanted or second.wanted,
        windows=first.windows + second.windows,
        events=first.events + second.events,
        calls=first.calls + second.calls,
        trimmed=first.trimmed + second.trimmed,
        completed=first.completed + second.completed,
        sinks=tuple(_sinks(first.sinks, second.sinks)),
        extra=first.extra | second.extra | counted | {"failover": f"{gone}; continued with source '{source}'"},
    )
    if second.error is None:
        return report
    error = f"{gone}, and source '{source}' failed too: {second.error}"
    return dataclasses.replace(report, error=error, exit_code=worst([first.exit_code, second.exit_code]))


def account_to_go_on_with(assembly: Assembly, account: str, report: RunReport) -> str | None:
    """Return the account that the other source is to read, None where it cannot be told.

    It is the one that the run found, that was asked for, or that was exported before; where none ever was, the one
    that the credential has. An account found under another name would be exported anew.
    """
    if known := report.stream.account_id or account:
        return known
    before = {one.account_id for one in _remembered(assembly, account)}
    return next(iter(before), "") if len(before) < 2 else None


def _source_of(assembly: Assembly, account: str) -> str | None:
    """Return the name of the source that read an account last, None where none did, or several did."""
    found = {one.source for one in _remembered(assembly, account)}
    return found.pop() if len(found) == 1 else None


def _remembered(assembly: Assembly, account: str) -> list[Stream]:
    """Return the stream as it was read last; where no account is named, all that are like this one."""
    stream, store = assembly.stream(account), assembly.store
    if account:
        whole = dataclasses.replace(stream, slice=None)
        found = store.load(stream.id) or store.load(whole.id)
        return [found.checkpoint.stream] if found else []
    streams = []
    for stream_id in islice(store.streams(), _STREAMS):
        with suppress(CfauditError):  # a checkpoint that cannot be read stops the run of its own stream
            if (one := store.load(stream_id)) and one.checkpoint.stream.filters == stream.filters:
                streams.append(one.checkpoint.stream)
    return streams


def _sinks(first: Sequence[SinkReport], second: Sequence[SinkReport]) -> Iterator[SinkReport]:
    """Yield what each sink got of both."""
    before = {one.name: one for one in first}
    for one in second:
        was = before.pop(one.name, SinkReport(one.name))
        yield dataclasses.replace(
            one,
            batches=was.batches + one.batches,
            rows=was.rows + one.rows,
            late_rows=was.late_rows + one.late_rows,
            quarantined=was.quarantined + one.quarantined,
            locations=was.locations + one.locations,
            loaded_bytes=was.loaded_bytes + one.loaded_bytes,
        )
    yield from before.values()
