"""The alerts on what runs leave behind: Prometheus' own rule tester says which of them fire, and which do not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cfaudit_export.cli import main
from cfaudit_export.core.model import Checkpoint, Lateness, RunReport, SinkProgress, SinkReport, Stream, Window
from cfaudit_export.errors import ExitCode
from cfaudit_export.metrics.collect import collect
from cfaudit_export.metrics.textfile import write_textfile
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
RULES = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
STEP = 5
"""Minutes between two samples."""
BEGIN = 10 * 60
"""The minute at which the first run ends; Prometheus' tester counts from 1970."""
HOUR = timedelta(hours=1)
STREAM = Stream("0f3c1e5a7b9d2468ace013579bdf2468", "auditlogs")
GONE = {"CfauditBehind", "CfauditNoSuccess", "CfauditNoGoodEnd", "CfauditNotRunning"}


@dataclass(frozen=True)
class Case:
    """What runs left behind, minute by minute, and the alerts that fire at a minute."""

    name: str
    files: dict[int, str]
    at: int
    fires: frozenset[str]


def moved(text: str, minute: int) -> Iterator[tuple[str, float]]:
    """Yield the series of a metrics file as if its command had ended at a minute of the tester's time."""
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    values = {series: float(value) for series, _, value in lines}
    now = max(value for series, value in values.items() if re.match(r"cfaudit_last_(run|end)_timestamp", series))
    for series, value in values.items():
        is_time = "_timestamp_seconds" in series and value
        yield series, value - now + 60 * minute if is_time else value


def input_series(files: dict[int, str], until: int) -> list[dict[str, str]]:
    found: dict[str, dict[int, float]] = {}
    for minute, text in files.items():
        for series, value in moved(text, minute):
            found.setdefault(series, {})[minute] = value
    steps = range(0, until + STEP, STEP)

    def value_at(values: dict[int, float], step: int) -> str:
        before = [minute for minute in values if minute <= step]
        return repr(values[max(before)]) if before else "_"

    return [
        {"series": series, "values": " ".join(value_at(values, step) for step in steps)}
        for series, values in found.items()
    ]


def as_unit(case: Case) -> dict[str, Any]:
    firing = 'group by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(case.fires)]
    return {
        "name": case.name,
        "interval": f"{STEP}m",
        "input_series": input_series(case.files, case.at),
        "promql_expr_test": [{"expr": firing, "eval_time": f"{case.at}m", "exp_samples": samples}],
    }


def every_hour(text: str, hours: int) -> dict[int, str]:
    return {BEGIN + 60 * hour: text for hour in range(hours + 1)}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the program against a sandbox, with a token of a kind; return the metrics file that it left."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(name: str, *more: str, token: str = "user", **options: Any) -> str:
        folder = tmp_path / name
        folder.mkdir()
        world = World(SandboxOptions(events=30, **options))
        with Sandbox(world, authorization=OAuth(world)) as sandbox:
            monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens.get(token, ""))
            account = sandbox.world.accounts[0].id
            where = ("--server-url", sandbox.mcp_url, "--account", account, "--state-dir", str(folder / "state"))
            into = ("--sink", "parquet", "-o", f"sinks.parquet.path={folder / 'out'}", "--recover", "off")
            limits = ("--settle-lag", "0s", "--max-wait", "1s", "--metrics-file", str(folder / "cfaudit.prom"))
            main(["run", *where, *into, *limits, *more])
        return (folder / "cfaudit.prom").read_text()

    return run


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., str]:
    """Write what a run measured that is hard to come by; the file is the same one until it is named otherwise."""
    now = datetime(2026, 11, 24, tzinfo=UTC)

    def write(name: str, sink: SinkReport, progress: SinkProgress, late: Lateness, **more: Any) -> str:
        path = tmp_path / f"{name}.prom"
        ends_at = more.pop("ends_at", None)
        extra = {"throttles": more.pop("throttles", 0)}
        window = Window(now - HOUR, now)
        report = RunReport(
            STREAM, now, now, window, windows=1, events=1, calls=1, sinks=(sink,), extra=extra,
            exit_code=ExitCode.OK, **more,
        )  # fmt: skip
        covered = SinkProgress((window,), quarantined=progress.quarantined)
        checkpoint = Checkpoint(STREAM, {"parquet": covered}, (), late)
        write_textfile(path, collect(report, checkpoint, now + ends_at if ends_at else None, export=name))
        return path.read_text()

    return write


def real_cases(exported: Callable[..., str]) -> Iterator[Case]:
    good = exported("good")
    yield Case("a run that is well", {BEGIN: good}, BEGIN + 30, frozenset())
    yield Case("runs that stopped coming", {BEGIN: good}, BEGIN + 180, frozenset(GONE))
    yield Case("nothing at all", {}, 180, frozenset({"CfauditAbsent"}))
    nobody = exported("nobody", token="none")
    never = frozenset({"CfauditCannotBegin", "CfauditNoGoodEnd"})
    yield Case("a deployment that never worked", every_hour(nobody, 3), BEGIN + 190, never)
    refused = exported("refused", token="no_permission")
    person = frozenset({"CfauditNeedsPerson", "CfauditNoGoodEnd", "CfauditNoSuccess"})
    yield Case("a token that lost its permission", every_hour(refused, 3), BEGIN + 190, person)
    gaps = exported("gaps", poison=("api-context=1",))
    yield Case("rows that cannot be read", every_hour(gaps, 2), BEGIN + 125, frozenset({"CfauditGaps"}))
    yield Case("rows that cannot be read, just now", {BEGIN: gaps}, BEGIN + 30, frozenset())


def measured_cases(measured: Callable[..., str]) -> Iterator[Case]:
    fine, progress, on_time = SinkReport("parquet"), SinkProgress(), Lateness()
    down = SinkReport("parquet", error="down", exit_code=ExitCode.SINK_DOWN)
    away = frozenset({"CfauditAbsent"})  # these are without the end of a command
    failing = measured("failing", down, progress, on_time)
    yield Case("a sink that fails", {BEGIN: failing}, BEGIN + 40, away | {"CfauditSinkFails"})
    yield Case("a sink that failed once", {BEGIN: failing}, BEGIN + 10, away)
    quarantined = measured("refusing", fine, SinkProgress(quarantined=3), on_time)
    yield Case("a sink that refuses events", {BEGIN: quarantined}, BEGIN + 5, away | {"CfauditRefused"})
    well = measured("trimming", fine, SinkProgress(), on_time)
    overdue = re.sub(r"(cfaudit_trimmed_overdue_rows\{[^}]*\}) 0", r"\1 7", well)
    yield Case("events that lack columns", every_hour(overdue, 2), BEGIN + 125, away | {"CfauditTrimmed"})
    hours = [measured("late", fine, progress, Lateness(1, 3_600.0 * hour, {-1: 1})) for hour in (1, 6)]
    yield Case("events that came late", {BEGIN: hours[0], BEGIN + 60: hours[1]}, BEGIN + 90, away | {"CfauditLate"})
    yield Case("events that were late long ago", {BEGIN - 10: hours[1]}, BEGIN + 60, away)
    blocked = [measured("blocked", fine, progress, on_time, throttles=1) for _ in range(20)]
    often = {BEGIN + 10 * number: text for number, text in enumerate(blocked)}
    yield Case("a user that is throttled", often, BEGIN + 150, away | {"CfauditThrottled"})
    yield Case("a user that was throttled twice", {BEGIN: blocked[0], BEGIN + 60: blocked[1]}, BEGIN + 90, away)
    for days, fires in ((3, away | {"CfauditSignInEnds"}), (20, away)):
        ending = measured(f"ending-{days}", fine, progress, on_time, ends_at=timedelta(days=days))
        yield Case(f"a sign-in of {days} days more", {BEGIN: ending}, BEGIN + 60, frozenset(fires))


def test_each_alert_fires_on_what_it_is_for_and_on_nothing_else(
    tmp_path: Path, exported: Callable[..., str], measured: Callable[..., str]
) -> None:
    cases = [*real_cases(exported), *measured_cases(measured)]
    assert frozenset().union(*(case.fires for case in cases)) == RULES
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    shutil.copy(ALERTS, tmp_path / "alerts.yml")
    tests = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": f"{STEP}m",
        "tests": [as_unit(case) for case in cases],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
