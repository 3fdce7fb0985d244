"""A function and the options it takes -> a command. Options of the settings come from their own table.

@command(WHAT, WHERE, LOGS, epilog="Examples: ...")
def run(shell: Shell, settings: Settings, *, json: Annotated[bool, typer.Option("--json")] = False) -> ExitCode:
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from cfaudit_export.app.log import logging_to
from cfaudit_export.cli.help import HelpfulCommand
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.terminal import Terminal
from cfaudit_export.core.spoken import local_zone, understand
from cfaudit_export.settings import OPTIONS, Given, Option, Settings, load_settings
from cfaudit_export.settings.secret_values import secret_values, secret_variables

_FILE = "Settings"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """A command whose module is not imported yet.

    Attributes:
        body: does the work; takes the shell, the settings if it takes any, and its own options; returns the
            exit code.
        takes: options of the settings that it takes: panels of `OPTIONS`, or single keys.
        epilog: shown as it is below the options.
        more: makes further options when they are needed.
    """

    body: Callable[..., int]
    takes: tuple[str, ...]
    epilog: str
    more: Callable[[], Iterable[inspect.Parameter]]

    def build(self, name: str) -> HelpfulCommand:
        """Return the command as typer runs it; its context carries a `Shell`."""
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(name, cls=HelpfulCommand, help=inspect.getdoc(self.body), epilog=self.epilog)(self._callback())
        built = typer.main.get_command(app)
        assert isinstance(built, HelpfulCommand)  # noqa: S101  # the class was asked for two lines above
        return built

    def _callback(self) -> Callable[..., int]:
        shared = [one for one in OPTIONS if one.flags and {one.panel, one.key} & set(self.takes)]

        def callback(ctx: typer.Context, **given: Any) -> int:
            shell: Shell = ctx.obj
            _hide(shell, secret_variables(shell.environ))
            if not self.takes:
                return self.body(shell, **given)
            flags = {option.name: given.pop(option.name) for option in shared}
            config = given.pop("config")
            now = shell.clock().astimezone(ZoneInfo(local_zone(shell.environ)))
            settings = load_settings(
                Given(Path(config) if config else None, given.pop("option") or (), flags),
                environ=shell.environ,
                now=now,
                directory=shell.directory,
            )
            _tell_times(shell, flags, now)
            _hide(shell, secret_values(settings, shell.environ))
            with _logging(shell.terminal, settings):
                for notice in settings.notices:
                    _LOG.warning(notice)
                return self.body(shell, settings, **given)

        taken = inspect.signature(self.body, eval_str=True).parameters.values()
        own = [one for one in taken if one.kind is one.KEYWORD_ONLY]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        settings = [*map(_parameter, shared), *(_FILE_PARAMETERS if self.takes else ())]
        # One in a panel of the settings comes behind them, so that it does not lift the panel above the others.
        late = [one for one in own if one.annotation.__metadata__[0].rich_help_panel in self.takes]
        parameters = [context, *(one for one in own if one not in late), *settings, *late, *self.more()]
        callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        callback.__annotations__ = {}
        return callback


def command(
    *takes: str, epilog: str = "", more: Callable[[], Iterable[inspect.Parameter]] = tuple
) -> Callable[[Callable[..., int]], Command]:
    """Make a command of a function; its docstring is the help."""
    return lambda body: Command(body, takes, epilog, more)


def flag(name: str, annotation: Any, default: Any, info: Any) -> inspect.Parameter:
    """Return an option as a parameter."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


def _hide(shell: Shell, secrets: Iterable[str]) -> None:
    for secret in secrets:
        shell.terminal.redaction.hide(secret)


def _tell_times(shell: Shell, flags: Mapping[str, Any], now: datetime) -> None:
    """Say what was understood of times that are given in words."""
    for name in ("since", "until"):
        if text := flags.get(name):
            found = understand(text, now, ZoneInfo(str(now.tzinfo)))
            if found.is_spoken:
                shell.terminal.say(f"--{name} '{text}': {found.words}")


def _parameter(option: Option) -> inspect.Parameter:
    about = f"{option.help} (default: {option.default})" if option.default else option.help
    if option.repeats and option.metavar:
        about += "; repeatable"
    if not option.metavar and option.repeats:
        info = typer.Option(*option.flags, help=about, count=True, rich_help_panel=option.panel)
        return flag(option.name, int, 0, info)
    if not option.metavar:
        info = typer.Option(*option.flags, help=about, rich_help_panel=option.panel)
        return flag(option.name, bool, default=False, info=info)
    info = typer.Option(*option.flags, help=about, metavar=option.metavar, rich_help_panel=option.panel)
    return flag(option.name, list[str] | None if option.repeats else str | None, None, info)


_FILE_PARAMETERS = (
    flag(
        "config",
        str | None,
        None,
        typer.Option(
            "--config",
            help="TOML file (default: cfaudit.toml here, else in the user's config folder)",
            metavar="FILE",
            rich_help_panel=_FILE,
        ),
    ),
    flag(
        "option",
        list[str] | None,
        None,
        typer.Option(
            "-o",
            "--option",
            help="set a key of the TOML file, as in -o sinks.parquet.path=out; repeatable",
            metavar="KEY=VALUE",
            rich_help_panel=_FILE,
        ),
    ),
)


def _logging(terminal: Terminal, settings: Settings) -> Any:
    quiet = -1 if terminal.is_interactive else 0
    return logging_to(
        terminal, form=log_form(terminal, settings), verbosity=settings.verbosity or quiet, redaction=terminal.redaction
    )


def log_form(terminal: Terminal, settings: Settings) -> str:
    """Return the form of log lines: what is set, else text for people and JSON for machines."""
    return settings.log_format or ("text" if terminal.is_interactive else "json")
