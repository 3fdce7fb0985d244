"""Export once in a process of its own, as it is told in JSON; the exit code is that of the run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from bad_habits.log import ACCOUNT, NOW
from bad_habits.runs import SINCE, UNTIL
from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.settings import Settings


def main() -> int:
    order = json.loads(sys.argv[1])
    root = Path(order["root"])
    given = {"server_url": order["url"], "budget_calls": 0, "page_size": order["page_size"], "piece_rows": 20}
    settings = Settings(
        account=(ACCOUNT,),
        source=order["source"],
        sink=("parquet",),
        since=SINCE,
        until=UNTIL,
        rescan=UNTIL - SINCE,
        state_dir=root / "state",
        recover={"mode": "off"},
        sources={order["source"]: {**given, "concurrency": order["concurrency"]}},
        sinks={"parquet": {"path": str(root / "out")}},
    )
    environ = {"CLOUDFLARE_API_TOKEN": "cfat_token"}
    assembly = compose(settings, load_plugins(environ={}), environ=environ, clock=lambda: NOW)
    return int(export(replace(assembly, request=replace(assembly.request, latecomers=True)), ACCOUNT).exit_code)


if __name__ == "__main__":
    sys.exit(main())
