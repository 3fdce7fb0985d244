"""Calls and waiting, which is what a rate limit makes an export cost: counted by the server, not timed.

    python tests/benchmarks/bench_calls.py [--events 50000]

Prints calls per 1,000 events beside the bare minimum of full pages, for clean and poisoned data and with columns
rebuilt, and the time that a throttled export takes beside what the bucket allows at best. Waiting is simulated: the
server's clock and the exporter's are one, and only waiting moves it.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio
from measure import verdict

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Stream, Window, floor_ms
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.mcp.budget import WINDOW_SECONDS, CallBudget
from cfaudit_export.sources.paging.facets import CANDIDATES
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.world.query import value_of

END = datetime(2026, 11, 20, tzinfo=UTC)
_ARRIVING_SECONDS = 0.2  # in which every call that is on its way arrives and is answered


class Trial:
    """A world, and one export from it."""

    def __init__(self, events: int, **options: Any) -> None:
        self.now = END.timestamp()
        given = {"end_at": END, "events": events, "span_seconds": 30 * 86_400.0, "cache_bytes": 256 << 20, **options}
        self.world = World(SandboxOptions(**given), clock=lambda: self.now)
        self.pages = math.ceil(events / 1000)

    def least(self) -> int:
        """Return the calls of one walk through everything and one for each value of each column that is rebuilt.

        Fewer cannot be: a row's value is known by the filter that returns the row, and a filter has one value. What
        no row has must still be asked for once, because some rows have no value.
        """
        records = self.world.records(self.world.accounts[0].id)
        rows = Counter((facet, str(value_of(record, facet))) for record in records for facet in CANDIDATES)
        walks = [rows[facet, value] for facet, values in CANDIDATES.items() for value in values]
        return self.pages + sum(max(1, math.ceil(found / 1000)) for found in walks)

    async def _sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await anyio.sleep(_ARRIVING_SECONDS)  # real ones: time passes when all wait, and once for all
        self.now = max(self.now, until)

    def read(self, recover: Literal["off", "all"] = "off", budget: int = 0, **more: Any) -> dict[str, int]:
        """Read everything and return the server's counts, `waited` seconds among them."""
        since = floor_ms(datetime.fromtimestamp(self.world.since, UTC)) - timedelta(hours=1)
        token = TokenCredential(self.world.tokens["account"])
        with Sandbox(self.world) as sandbox:
            stream = Stream(self.world.accounts[0].id, "auditlogs")
            context = SourceContext(stream, token, lambda: END, recover=Recover(recover))
            context.shared.values["budget"] = CallBudget(budget, None, now=lambda: self.now, sleep=self._sleep)
            given = {"concurrency": 1 if budget else 4, **more}
            config = AuditLogsConfig(server_url=sandbox.mcp_url, budget_calls=budget, **given)
            with closing(AuditLogsSource(config, context)) as source:
                source.connect()
                for _ in source.extract([Window(since, END + timedelta(hours=1))]):
                    pass
            return {**sandbox.upstream.counts, "waited": round(self.now - END.timestamp())}


def calls(events: int, poison_shares: Sequence[float]) -> None:
    print(f"\ncalls for {events} events, beside {math.ceil(events / 1000)} full pages")
    clean = 0
    for share in poison_shares:
        trial = Trial(events, poison_fraction=share)
        made = trial.read()["audit_calls"]
        clean = clean or made
        print(f"  {share:7.1%} poison: {made:6} calls, {made / events * 1000:7.2f} per 1,000 events", flush=True)
        if not share:
            verdict("calls on clean data less 2, against full pages", (made - 2) / trial.pages, 1.2)
        else:
            verdict("extra calls for each rejected row", (made - clean) / round(share * events), 25)
    trial = Trial(events)
    made = trial.read("all")["audit_calls"]
    print(f"  columns rebuilt: {made:6} calls, {made / events * 1000:7.2f} per 1,000 events")
    verdict("calls with 7 columns rebuilt, against one walk for each value", made / trial.least(), 1.05)
    verdict("calls with 7 columns rebuilt, against full pages", made / trial.pages, 8)


def throttled(events: int) -> None:
    print(f"\nthrottled to 20 upstream calls in {WINDOW_SECONDS:.0f} s, {events} events")
    counts = Trial(events, throttle_calls=20).read(budget=20)
    ideal = (counts["upstream_calls"] - 1) // 20 * WINDOW_SECONDS
    print(f"  {counts['upstream_calls']} upstream calls, waited {counts['waited']} s, the bucket's ideal {ideal:.0f} s")
    verdict("waiting against the bucket's ideal", counts["waited"] / ideal, 1.05)
    verdict("calls refused where the budget is known", counts.get("throttled", 0), 0)


def throttled_unawares(events: int) -> None:
    budget, rows = 200, 100
    print(f"\nthrottled likewise to {budget}, which is not told; {events} events, {rows} a page")
    for workers in (1, 4):
        counts = Trial(events, throttle_calls=budget).read(page_size=rows, concurrency=workers)
        taken = counts["upstream_calls"] - counts["throttled"]
        ideal = (taken - 1) // budget * WINDOW_SECONDS
        print(f"  {workers} workers: {taken} upstream calls, waited {counts['waited']} s, ideal {ideal:.0f} s")
        print(f"  {counts['blocks']} blocks, in which {counts['throttled']} calls were refused")
        verdict("waiting against the bucket's ideal", counts["waited"] / ideal, 1.05)
        verdict("blocks where the budget is hidden", counts["blocks"], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    options = parser.parse_args()
    throttled(options.events)
    throttled_unawares(options.events)
    calls(options.events, (0.0, 0.001, 0.02))


if __name__ == "__main__":
    main()
