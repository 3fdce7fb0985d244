"""A week of cron with the token of a user: what runs cost, and how many rows end with all their columns.

    python tests/benchmarks/bench_week.py [--hours 168] [--events 69]

Each hour brings events, some of them late and one that the server refuses, and one run with the default settings. The
server throttles as Cloudflare does. Then what three runs of one small log cost, of which two find nothing new. Waiting
is simulated: the server's clock and the exporter's are one, and only waiting moves it.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import anyio
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from measure import verdict

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import RunReport, Stream
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.pipeline.run import run_stream
from cfaudit_export.pipeline.run_context import RunContext
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_export.sources.paging.facets import CANDIDATES
from cfaudit_export.stores.file import FileStore
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink
from cfaudit_sandbox import Sandbox, SandboxOptions, World

START = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
ODD = "delegated-service"
_THROTTLE_CALLS = 1_200
_UPSTREAM = 3  # calls of the API that a tool call costs with a token, on servers that look it up each time
_COLUMNS = ["event_id", "replaces", "fidelity", "action_type"]
_ARRIVING_SECONDS = 0.2  # in which every call that is on its way arrives and is answered


class Cron:
    """A world, a place for what is exported from it, and the time."""

    def __init__(self, sandbox: Sandbox, root: Path) -> None:
        self.sandbox = sandbox
        self.root = root
        self.now = START.timestamp()

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def _sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await anyio.sleep(_ARRIVING_SECONDS)
        self.now = max(self.now, until)

    def run(
        self, token: str = "user", budget: int | None = None, recover: Literal["auto", "off"] = "auto"
    ) -> RunReport:
        world = self.sandbox.world
        config = AuditLogsConfig(server_url=self.sandbox.mcp_url)
        stream = Stream(world.accounts[0].id, "auditlogs")
        credential = TokenCredential(world.tokens[token])
        context = SourceContext(stream, credential, lambda: self.at, recover=Recover(recover))
        calls = config.budget_calls if budget is None else budget
        context.shared.values["budget"] = CallBudget(calls, None, now=lambda: self.now, sleep=self._sleep)
        with closing(AuditLogsSource(config, context)) as source:
            job = RunContext(
                stream=stream,
                connection=source.connect(),
                source=source,
                sinks={"parquet": ParquetSink(ParquetConfig(str(self.root / "out")))},
                store=FileStore(self.root / "checkpoints"),
                staging=self.root / "staging",
                clock=lambda: self.at,
                request=RunRequest(settle_lag=timedelta(0)),
            )
            return run_stream(job)

    def rows(self) -> pa.Table:
        """Return the events that readers see: those that no other has taken the place of."""
        table = pq.read_table(self.root / "out", columns=_COLUMNS, partitioning=None)
        seen = table.filter(pc.invert(pc.is_in(table["event_id"], value_set=table["replaces"].drop_null())))
        return seen.filter(pc.not_equal(seen["fidelity"], "shadow"))


def made(root: Path, **options: Any) -> Cron:
    box: list[Cron] = []
    given = {"end_at": START, "events": 0, "span_seconds": 3_600.0, "throttle_calls": _THROTTLE_CALLS, **options}
    world = World(SandboxOptions(**given), clock=lambda: box[0].now if box else START.timestamp())
    box.append(Cron(Sandbox(world), root))
    return box[0]


def week(hours: int, events: int) -> None:
    print(f"\n{hours} hours of cron, {events} events an hour, one of them refused, user token, default settings")
    with tempfile.TemporaryDirectory() as folder:
        cron = made(Path(folder), poison={ODD: 1}, events=1, late_fraction=0.02, late_max_seconds=1_800.0)
        with cron.sandbox as sandbox:
            account = sandbox.world.accounts[0].id
            most = throttled = 0
            for hour in range(1, hours + 1):
                since = START + (hour - 1) * HOUR
                sandbox.world.grow(account, events, since, since + HOUR)
                cron.now = max(cron.now, (since + HOUR).timestamp())
                before = sandbox.upstream.counts["upstream_calls"]
                report = cron.run()
                most = max(most, sandbox.upstream.counts["upstream_calls"] - before)
                throttled = sandbox.upstream.counts["throttled"]
                if hour % 24 == 0 or hour == hours:
                    spent = sandbox.upstream.counts["upstream_calls"] // hour
                    facts = f"{report.still_trimmed} trimmed, {len(report.gaps)} gaps"
                    print(f"  hour {hour}: {facts}, {spent} upstream calls a run, {most} at most", flush=True)
            rows = cron.rows()
        lacking = rows["action_type"].null_count / max(rows.num_rows, 1)
        print(f"  {rows.num_rows} events, {1 - lacking:.2%} with an action type")
        verdict("share of events without an action type", lacking, 0.01)
        verdict("calls refused where the budget is kept", throttled, 0)


def comes_back(odd: int, token: str, budget: int, first: int, later: int) -> None:
    print(f"\n{odd} refused rows in 300 events of 2.4 h, {token} token, budget {budget or 'unlimited'}")
    values = sum(map(len, CANDIDATES.values()))
    print(f"  bound of a run with columns: {values} values to ask for, {_UPSTREAM * values} upstream calls")
    with tempfile.TemporaryDirectory() as folder:
        poison = {ODD: odd} if odd else {}
        cron = made(Path(folder), events=300, span_seconds=2.4 * 3_600, poison=poison)
        with cron.sandbox as sandbox:
            for number, limit in enumerate((first, later, later), 1):
                before = sandbox.upstream.counts["audit_calls"]
                report = cron.run(token, budget)
                calls = sandbox.upstream.counts["audit_calls"] - before
                print(f"  run {number}: {calls} calls, {report.trimmed} rows trimmed, {len(report.gaps)} gaps")
                verdict(f"calls of run {number}", calls, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=168)
    parser.add_argument("--events", type=int, default=69)
    options = parser.parse_args()
    comes_back(0, "account", 0, 50, 2)
    comes_back(3, "account", 0, 120, 5)
    comes_back(20, "user", 600, 200, 25)
    week(options.hours, options.events)


if __name__ == "__main__":
    main()
