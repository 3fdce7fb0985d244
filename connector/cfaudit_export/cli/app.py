"""Arguments in, exit code out: the commands, the errors and the signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cfaudit_export.cli.help import HelpfulCommand, write_lines, write_options
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.streams import ReaderGoneError, standard_streams
from cfaudit_export.cli.terminal import PROGRAM, Terminal
from cfaudit_export.core.causes import shortage_of
from cfaudit_export.errors import CfauditError, ExitCode, UsageError

if TYPE_CHECKING:
    from cfaudit_export.cli.command import Command

DEFAULT = "run"
# Kubernetes and systemd are set to wait at least ten by those who are in a hurry.
_STOP_SECONDS = 8.0
COMMANDS = {
    "demo": ("demo", "Try it", "Export made-up events into ./demo, to see how it works"),
    "sandbox": ("demo", "Try it", "Serve an emulated Audit Logs server until Ctrl-C"),
    "init": ("init", "Set up", "Write a settings file, and see whether it is right"),
    "login": ("login", "Set up", "Sign in at the server with a browser"),
    "logout": ("login", "Set up", "Revoke a sign-in and delete it here"),
    "run": ("run", "Export", "Export what is new into each sink"),
    "plan": ("plan", "Export", "Show what a run would read, and how many calls that takes"),
    "check": ("check", "Export", "Test the source and the sinks without exporting anything"),
    "status": ("status", "Export", "Show the progress of each stream and sink"),
    "verify": ("verify", "Export", "Prove exported files, or compare them with the source"),
    "key": ("key", "Export", "Create, show or change keys of proof and identity"),
    "gaps": ("gaps", "Export", "List the gaps, or try to read them again"),
    "replay": ("replay", "Export", "Load quarantined events again"),
    "events": ("events", "Ask the server", "Show the newest events from the server"),
    "report": ("report", "Ask the exported data", "Summarise a period: activity, actors, failures, changes"),
    "findings": ("findings", "Ask the exported data", "Show what deserves a look: suspicious changes, with reasons"),
    "alert": ("alert", "Ask the exported data", "Tell what deserves a look, once, by webhook, Slack or e-mail"),
    "timeline": ("timeline", "Ask the exported data", "Show who did what, step by step"),
    "sql": ("sql", "Ask the exported data", "Query exported data with SQL"),
    "mcp": ("mcp", "Ask the exported data", "Serve exported data to AI assistants (MCP)"),
    "compact": ("compact", "Ask the exported data", "Merge small files of past days"),
    "retention": ("retention", "Ask the exported data", "Remove old days on purpose, on record"),
    "erase": ("erase", "Ask the exported data", "Erase a person from exported files, on record"),
    "pseudonym": ("pseudonym", "Look inside", "Show the pseudonyms of a person"),
    "reveal": ("pseudonym", "Look inside", "Decrypt values in a text from stdin"),
    "plugins": ("about", "Look inside", "List installed plugins, and why broken ones fail"),
    "schema": ("about", "Look inside", "Print the schema of exported events"),
}
"""Every command: the module of this folder that holds it, the panel of `--help` that shows it, and its summary.

The summary is the first line of the command's own help; it stands here so that `--help` imports no command.
"""

_EPILOG = """
Options without a command are those of 'run': cfaudit-export --sink parquet

Without an account:
  cfaudit-export demo
Your own account:
  cfaudit-export init
  cfaudit-export check
  cfaudit-export run
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code of the process."""
    with standard_streams():
        return _main(sys.argv[1:] if arguments is None else list(arguments))


def _main(arguments: Sequence[str]) -> int:
    terminal = Terminal()
    shell = Shell(terminal, os.environ, lambda: datetime.now(UTC), Path())
    with _interruptible() as received:
        try:
            code = _group().main(arguments, prog_name=PROGRAM, standalone_mode=False, obj=shell)
            sys.stdout.flush()
        except ReaderGoneError:
            return 128 + signal.SIGPIPE
        except CfauditError as error:
            terminal.fail(str(error))
            return int(error.exit_code)
        except typer.TyperException as error:
            terminal.fail(_usage(error, arguments))
            return int(ExitCode.USAGE)
        except (KeyboardInterrupt, typer.Abort):
            code = 0
        except Exception as error:  # noqa: BLE001  # a fault of ours or a plugin's, or the machine lacks something
            return int(_fail(terminal, error))
    if received:
        terminal.fail("stopped; finished work is saved, and the next run continues from there")
        return 128 + received[-1]
    return int(code or 0)


def _fail(terminal: Terminal, error: Exception) -> ExitCode:
    """Say what the machine lacks, or what is needed to repair a fault; return the exit code."""
    if lacking := shortage_of(error):
        terminal.fail(lacking)
        return ExitCode.TRY_AGAIN
    from cfaudit_export.plugin.blame import report_to

    terminal.say(traceback.format_exc())
    terminal.fail(report_to(error, "with the lines above"))
    return ExitCode.BUG


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Let SIGINT, SIGTERM and SIGHUP stop the work like an exception; yield the list in which they are noted.

    A terminal that is closed sends SIGHUP. Who started the program with `nohup` had it ignored, and it stays so.

    Work that does not stop in time is abandoned, which is as safe as any crash: the sender of the signal would kill
    the process a little later.
    """
    received: list[int] = []

    def abandon() -> None:
        os._exit(128 + received[0])

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            limit = threading.Timer(_STOP_SECONDS, abandon)
            limit.daemon = True
            limit.start()
        raise KeyboardInterrupt

    stopping = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        stopping.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in stopping}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Group(TyperGroup):
    """The commands, each imported when it is asked for; options without a command mean `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command where none is given; a shell that completes may still be given one."""
        mine = {name for option in self.get_params(ctx) for name in option.opts}
        if args:
            is_default = args[0].startswith("-") and args[0].partition("=")[0] not in mine
        else:
            is_default = not ctx.resilient_parsing
        if is_default:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature is typer's
        """Return the names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> HelpfulCommand | None:  # noqa: ARG002  # the signature is typer's
        """Return a command, built now."""
        return _load(cmd_name).build(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the arguments name."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from cfaudit_export.core.suggest import nearest

            known = ", ".join(COMMANDS)
            raise UsageError(f"no such command '{args[0]}'{nearest(args[0], COMMANDS)} (commands: {known})")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the signature is typer's
        """Write the commands, panel by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        width = max(map(len, COMMANDS))
        for name, (_, panel, summary) in COMMANDS.items():
            panels.setdefault(panel, []).append((name.ljust(width), summary))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the signature is typer's
        """Write the epilog."""
        write_lines(self.epilog, formatter)


def _load(name: str) -> Command:
    from cfaudit_export.cli.command import Command

    found = getattr(import_module(f"{__package__}.{COMMANDS[name][0]}"), name)
    assert isinstance(found, Command)  # noqa: S101  # the table above names nothing else
    return found


def _group() -> Any:
    app = typer.Typer(
        cls=_Group,
        rich_markup_mode=None,
        options_metavar="[COMMAND] [OPTIONS]",
        subcommand_metavar="",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return typer.main.get_command(app)


def _version(on: bool) -> None:  # noqa: FBT001  # the signature is typer's
    if on:
        from importlib.metadata import version

        from cfaudit_export.core.installing import installed_commit

        commit = installed_commit()
        typer.echo(f"{PROGRAM} {version(PROGRAM)}" + (f" (commit {commit[:12]})" if commit else ""))
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Export Cloudflare audit logs: complete, once, honest about what is missing."""


def _usage(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Return what is wrong with the command line, in the words of this program."""
    from cfaudit_export.core.suggest import nearest

    context: Any = getattr(error, "ctx", None)
    place = context.command_path if context else PROGRAM
    option = getattr(error, "option_name", None)
    if option and hasattr(error, "possibilities"):
        known = [name for param in context.command.get_params(context) for name in param.opts] if context else []
        text = f"no such option '{option}'{nearest(option, known)}"
    else:
        message = error.format_message().rstrip(".")
        text = message[:1].lower() + message[1:]
    misplaced = next((one for one in arguments[1:] if one in COMMANDS), None)
    if misplaced and arguments[0].startswith("-"):
        text += f"; the command comes first, as in '{PROGRAM} {misplaced} ...'"
    return f"{text} (see '{place} --help')"
