"""SQL, asked for line by line at a terminal."""

from __future__ import annotations

import readline
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cfaudit_export.analysis.files.statement import is_complete
from cfaudit_export.cli.terminal import Terminal
from cfaudit_export.core.durable import PRIVATE, make_folder
from cfaudit_export.errors import CfauditError

_FIRST = "sql> "
_MORE = "...> "
_HISTORY_LINES = 2_000
_COLUMNS = "SELECT column_name, column_type FROM (DESCRIBE audit_events);"
_HELP = """A statement may have several lines and ends with ';'. The events are in 'audit_events'.
.columns  the columns of audit_events
.help     this text
.quit     leave, and so does Ctrl-D; Ctrl-C forgets what was typed"""


def converse(terminal: Terminal, answer: Callable[[str], None], history: Path) -> None:
    """Ask for statements and answer them until the person leaves.

    Args:
        terminal: where help and errors are shown.
        answer: answers a text of SQL.
        history: file that keeps what was typed, readable by its owner only.
    """
    terminal.say("SQL over 'audit_events': end each statement with ';', type .help for help")
    with _remembered(history), _interruptible():
        while (text := _statement()) is not None:
            try:
                match text.strip():
                    case ".quit" | ".exit":
                        return
                    case ".help":
                        terminal.say(_HELP)
                    case ".columns":
                        answer(_COLUMNS)
                    case _:
                        answer(text)
            except KeyboardInterrupt:
                terminal.say("stopped")
            except CfauditError as error:
                terminal.fail(str(error))


def _statement() -> str | None:
    """Return what was typed, None at its end."""
    lines: list[str] = []
    while True:
        try:
            lines.append(input(_MORE if lines else _FIRST))
        except EOFError:
            return None
        except KeyboardInterrupt:
            print()  # noqa: T201  # the cursor stands behind ^C
            lines = []
            continue
        text = "\n".join(lines)
        if is_complete(text) or (len(lines) == 1 and text.startswith(".")):
            return text
        if not text.strip():
            lines = []


@contextmanager
def _remembered(history: Path) -> Iterator[None]:
    """Keep what is typed from one conversation to the next; it may hold names, so it is for its owner only."""
    readline.set_history_length(_HISTORY_LINES)
    with suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with suppress(OSError):
            make_folder(history.parent)
            history.touch(mode=PRIVATE)
            readline.write_history_file(history)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C stop a statement and not the program."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
