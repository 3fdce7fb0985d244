"""Removes or erases in a folder and dies at a line; `test_killed.py` runs it. Orders come on stdin, tab-separated.

An order is what to do, a folder, and a number: this process makes a child, which kills itself before it runs that line
of what changes files, counted in the order of execution. The answer says whether it did. It never changes files itself,
so that it has no threads when it forks.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet as _parquet  # noqa: F401  # children have it already

import cfaudit_export.analysis.removal as room
import cfaudit_export.analysis.verify.verify as _all  # noqa: F401  # likewise
import cfaudit_export.proof.folder as manifests
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.removal.erase import erase
from cfaudit_export.analysis.removal.person import Person
from cfaudit_export.analysis.removal.record import Work
from cfaudit_export.analysis.removal.retention import remove_before
from cfaudit_export.analysis.removal.storage import FolderStorage
from cfaudit_export.analysis.removal.trusted import require_trusted_chains
from cfaudit_export.core import durable
from cfaudit_export.proof import append
from cfaudit_export.proof.keys import load_key

NOW = datetime(2026, 12, 1, tzinfo=UTC)
WRITERS = {
    *(
        str(path)
        for path in Path(str(room.__file__)).parent.glob("*.py")
        if path.name not in {"person.py", "trusted.py"}
    ),
    *(str(module.__file__) for module in (durable, append, manifests)),
}


def die_at_line(number: int) -> None:
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in WRITERS:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def change(what: str, folder: str) -> None:
    keys = (load_key(Path(folder).parent / "signing.pem"),)
    trusted = require_trusted_chains(open_location(folder), keys)
    work = Work(FolderStorage(Path(folder)), keys, lambda: NOW)
    if what == "erase":
        list(erase(trusted, work, Person(("eve@example.com",))))
    else:
        list(remove_before(trusted, work, date(2026, 11, 3)))


def main() -> None:
    for line in sys.stdin:
        what, folder, number = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            die_at_line(int(number))
            try:
                change(what, folder)
            except BaseException:  # noqa: BLE001  # a child that goes on would take the orders of its parent
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit("the child failed, see above")
        print("killed" if os.WIFSIGNALED(status) else "done", flush=True)


if __name__ == "__main__":
    main()
