"""One run of an export at a given time, with faults; as a program: such runs in children that may be killed.

The program reads orders and answers each with how the run ended, JSON lines both ways. It never exports anything
itself, so that it has no threads when it forks.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cfaudit_export import Batch, LoadUnknownError, Receipt, Sink, SinkError, SinkPlugin, Window
from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.plugin.registry import Offer, Plugins, load_plugins
from cfaudit_export.settings import Settings
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

KILLED = -int(signal.SIGKILL)


class CutOffError(BaseException):
    """The end of a run in the middle of it, as by Ctrl-C."""


@dataclass(frozen=True)
class Moody:
    """Parquet files, by a sink that is down at times, at times loses its answer, and at times is cut off."""

    inner: ParquetSink
    dice: random.Random
    faults: float

    def check(self) -> str:
        return self.inner.check()

    def load(self, batch: Batch) -> Receipt:
        mood = self.dice.random() / self.faults if self.faults else 1.0
        if mood < 0.3:
            raise SinkError("the sink is down")
        if mood < 0.4:
            raise CutOffError
        receipt = self.inner.load(batch)
        if mood < 0.6:
            raise LoadUnknownError("the answer of the sink was lost")
        if mood < 0.7:
            raise CutOffError
        return receipt

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        return self.inner.find(batch_id, window)

    def close(self) -> None:
        self.inner.close()


def with_moods(plugins: Plugins, dice: random.Random, faults: float) -> Plugins:
    """Return the plugins with a sink `moody` among them."""

    def build(config: ParquetConfig) -> Sink:
        return Moody(ParquetSink(config), dice, faults)

    offer = plugins.sinks["parquet"]
    moody = Offer(
        "moody", offer.distribution, offer.version, offer.module, SinkPlugin("moody", ParquetConfig, build, "")
    )
    return replace(plugins, sinks={**plugins.sinks, "moody": moody})


def run(order: dict[str, Any], plugins: Plugins) -> int:
    """Run an export, and return its exit code.

    Raises:
        CutOffError: it was cut off.
    """
    root, now = Path(order["root"]), datetime.fromisoformat(order["now"])
    settings = Settings(
        account=(order["account"],),
        sink=("parquet", "moody"),
        since=datetime.fromisoformat(order["since"]),
        state_dir=root / "state",
        max_wait=timedelta(0),
        recover={"mode": "off"},
        sources={"auditlogs": {"server_url": order["url"], "budget_calls": 0, "retry_seconds": 0.0}},
        sinks={"parquet": {"path": str(root / "parquet")}, "moody": {"path": str(root / "moody")}},
    )
    assembly = compose(
        settings,
        with_moods(plugins, random.Random(order["seed"]), order["faults"]),
        environ={"CLOUDFLARE_API_TOKEN": order["token"]},
        clock=lambda: now,
    )
    return int(export(assembly, order["account"]).exit_code)


def run_child(order: dict[str, Any], plugins: Plugins) -> int:
    """Run in a child, killed after `order["seconds"]` where it still runs; return the code, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            code = run(order, plugins)
        except CutOffError:
            code = 1
        os._exit(code)
    if order["seconds"] is not None and signal.sigtimedwait([signal.SIGCHLD], order["seconds"]) is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    logging.getLogger("cfaudit_export").addHandler(logging.NullHandler())
    plugins = load_plugins()
    for line in sys.stdin:
        code = run_child(json.loads(line), plugins)
        while signal.sigtimedwait([signal.SIGCHLD], 0) is not None:
            pass  # the signal of a child that was waited for already
        sys.stdout.write(json.dumps(code) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
