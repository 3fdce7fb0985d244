"""What manifests say was removed or erased on purpose -> which days that is, and how it is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from cfaudit_export.analysis.verify.expected import Removal, Scope, account_in, day_in
from cfaudit_export.analysis.verify.findings import Finding, files_of, incomplete, note
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.intervals import intersect, union
from cfaudit_export.core.model import StoredFile, Window, iso


def removed_days(removals: Iterable[Removal]) -> Mapping[str, tuple[Window, ...]]:
    """Return for each account the days of which files were removed."""
    found: dict[str, set[date]] = {}
    for removal in removals:
        for one in removal.removed:
            account, day = account_in(one.name), day_in(one.name)
            if account is not None and day is not None:
                found.setdefault(account, set()).add(day)
    return {account: union(*map(_window, sorted(days))) for account, days in found.items()}


def removal_findings(removals: Iterable[Removal], scope: Scope, lacking: Sequence[Window]) -> Iterator[Finding]:
    """Yield what was removed or erased on purpose, and by which manifest.

    Args:
        removals: all there are.
        scope: what is asked about.
        lacking: the time that is asked about of which files were removed, so that it cannot be proved.
    """
    for removal in removals:
        by = f"{removal.label.replace('Manifest', 'manifest', 1)} of {iso(removal.sealed_at)}"
        if asked := [one for one in removal.removed if scope.has(one.name)]:
            days = [window for one in asked if (day := day_in(one.name)) for window in [_window(day)]]
            rows = sum(one.rows for one in asked)
            what = f"Removed on purpose: {_days(asked)}, {files_of(len(asked))}, {rows:,} events ({by}: "
            what += f"{escaped(removal.reason, 80) or 'no reason is given'})"
            yield incomplete("file", what) if intersect(days, lacking) else note("file", what)
        if removal.rewritten:
            events = f"{removal.erased:,} event" + "s" * (removal.erased != 1)
            what = f"Erased on purpose: something of {events} in {files_of(removal.rewritten)} ({by})"
            yield note("file", what)


def _days(files: Iterable[StoredFile]) -> str:
    days = sorted(day for one in files if (day := day_in(one.name)))
    if not days:
        return "of unknown days"
    return str(days[0]) if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _window(day: date) -> Window:
    since = datetime.combine(day, datetime.min.time(), UTC)
    return Window(since, since + timedelta(days=1))
