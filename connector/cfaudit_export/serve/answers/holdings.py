"""`audit_coverage`: what the archive holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cfaudit_export.analysis.files.database import EVENTS
from cfaudit_export.core.model import MILLISECOND, Window, floor_ms
from cfaudit_export.serve.answers.draft import AnswerDraft
from cfaudit_export.serve.answers.period import AskedPeriod, at_zone, coverage_head
from cfaudit_export.serve.answers.wording import told
from cfaudit_export.serve.archive import Archive

_SHORTEST = timedelta(seconds=1)
_SHARES = f"SELECT fidelity, count(*) AS events FROM {EVENTS} GROUP BY ALL ORDER BY events DESC, fidelity"  # noqa: S608  # a name of ours
_FIDELITY = "full: whole record; recovered: columns rebuilt; trimmed: six fields; shadow: known only to exist"


def answer_coverage(archive: Archive, arguments: Mapping[str, Any]) -> AnswerDraft:
    """Answer the tool. Raises CfauditError: the data cannot be read."""
    del arguments  # it has none but the size of the answer
    data, now = archive.data, archive.now
    first = min((one for one in (data.first, _covered_since(archive)) if one), default=now - _SHORTEST)
    until = archive.exported_until(())
    what = at_zone(archive, None, Window(floor_ms(first), max(until or now, floor_ms(first) + MILLISECOND)))
    whole = coverage_head(archive.coverage(what.period, what.accounts), what, until)
    accounts = [_account(archive, one, what) for one in archive.known_accounts()]
    shares = archive.kept("shares", lambda: data.ask(_SHARES))
    facts = {
        "now": told(now, what.zone),
        "place": data.place.shown,
        "fresh_seconds": (now - until).total_seconds() if until else None,
        "events": sum(one["events"] for one in shares),
        "fidelity": {one["fidelity"]: one["events"] for one in shares},
        "fidelity_means": _FIDELITY,
        "skipped_files": len(data.listing.ignored),
    }
    return AnswerDraft(whole, facts, {"accounts": accounts}, rows=len(accounts))


def _covered_since(archive: Archive) -> Any:
    windows = [
        sink.covered[0].since
        for one in archive.memory.checkpoints
        if not archive.order.account or one.stream.account_id == archive.order.account
        for sink in one.sinks.values()
        if sink.covered
    ]
    return min(windows, default=None)


def _account(archive: Archive, account: str, what: AskedPeriod) -> dict[str, Any]:
    files = [one for one in archive.data.listing.files if one.account_id == account]
    found = archive.coverage(what.period, [account])
    sources = Counter(one.stream.source for one in found.streams)
    body = {
        "account": account,
        "rows_in_files": sum(one.rows for one in files),
        "first_event": min((one.first for one in files if one.first), default=None),
        "last_event": max((one.last for one in files if one.last), default=None),
        "exported_until": archive.exported_until([account]),
        "is_complete": found.is_complete,
        "missing_windows": len(found.missing),
        "gaps": len(found.gaps),
        "sources": sorted(sources),
        "unknown_because": found.reason or None,
    }
    answer: dict[str, Any] = told(body, what.zone)
    return answer
