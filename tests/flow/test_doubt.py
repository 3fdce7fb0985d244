"""A gateway before Splunk that breaks every body, with disks that go with their machines and the checkpoint in S3."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cfaudit_sandbox import Sandbox, SandboxOptions, World

DAY = 86_400.0
INVALID_DATA = 6  # Splunk's code for an object that it cannot read


def test_a_gateway_that_breaks_every_body_fills_no_quarantine_and_loses_nothing(
    counterparts: Any, runner: Any, tmp_path: Path
) -> None:
    """Few events a run, after a first day on which all was well, and each run on a machine of its own."""
    splunk, s3 = counterparts.fresh("splunk"), counterparts.fresh("s3")
    world = World(SandboxOptions(events=24, span_seconds=4 * DAY, seed=5))
    options = {f"sinks.splunk.{key}": value for key, value in splunk.options.items()}
    options |= {f"checkpoint.{key}": s3.options[key] for key in ("bucket", "prefix", "endpoint_url", "region")}
    options |= {"checkpoint.store": "s3", "sources.auditlogs.budget_calls": "0"}

    def run_on_a_new_machine(sandbox: Sandbox, days: float) -> Any:
        folder = tmp_path / f"until day {days}"
        folder.mkdir()
        until = datetime.fromtimestamp(world.since + days * DAY, UTC).isoformat()
        arguments = ["run", "--source", "auditlogs", "--sink", "splunk", "--server-url", sandbox.mcp_url]
        arguments += ["--account", world.accounts[0].id, "--recover", "off", "--settle-lag", "0s"]
        arguments += ["--since", datetime.fromtimestamp(world.since, UTC).isoformat(), "--until", until]
        arguments += [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        environ = {"CLOUDFLARE_API_TOKEN": world.tokens["account"], **splunk.environ, **s3.environ}
        return runner.run(folder, arguments, environ)

    with Sandbox(world) as sandbox:
        assert run_on_a_new_machine(sandbox, 1).code == 0
        there = splunk.ids()
        assert 0 < len(there) < 24
        splunk.behind.collector.fault_of = lambda _object: INVALID_DATA
        for days in (2, 3):
            broken = run_on_a_new_machine(sandbox, days)
            assert broken.code == 69, broken.err
            assert splunk.ids() == there
        assert not [key for key in s3.behind.listed() if "quarantine" in key]
        splunk.behind.collector.fault_of = lambda _object: 0
        healed = run_on_a_new_machine(sandbox, 4)
        assert healed.code == 0, healed.err
        assert len(set(splunk.ids())) == len(splunk.ids()) == 24
