"""The command `init`: a few answers, or flags, become a settings file with comments."""

from __future__ import annotations

import getpass
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app.setup import Answers, MissingAnswerError, required_keys, settings_text
from cfaudit_export.auth.token import VARIABLE
from cfaudit_export.cli.command import command
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.terminal import program
from cfaudit_export.core.durable import create_file, make_folder, replacing
from cfaudit_export.errors import CfauditError, ExitCode, SettingsError, UsageError
from cfaudit_export.settings import AUTO, AUTO_SOURCES, Given, load_settings
from cfaudit_export.settings.folders import FILE_NAME
from cfaudit_export.settings.layers import pair_layer

if TYPE_CHECKING:
    from cfaudit_export.plugin.registry import Plugins

_TOKEN = "token"  # noqa: S105  # the name of its file
_SINK = "parquet"
_DEFAULTS = {"sinks.parquet.path": "out"}
_EPILOG = """
Asks for the sinks, their places, the source and the API token. With --sink, or
without a terminal, only what has no default must be given by -o: the source is
'auto', the folder of 'parquet' is 'out', and the token is that of --save-token,
or stays in CLOUDFLARE_API_TOKEN.

The token needs the permission 'Account Settings: Read', a user token also
'User Details: Read'. It is saved in a file beside the settings that only you
can read (mode 0600), and never in the settings.

Examples:
  cfaudit-export init
  cfaudit-export init --sink parquet -o sinks.parquet.path=/data/audit
  cfaudit-export init --sink s3 -o sinks.s3.bucket=audit-logs --save-token
"""


@command(epilog=_EPILOG)
def init(
    shell: Shell,
    *,
    sink: Annotated[
        list[str] | None, typer.Option("--sink", help="destination of the events; repeatable", metavar="NAME")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help=f"source of the events (default: {AUTO})", metavar="NAME")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "-o", "--option", help="key of the file, as in -o sinks.parquet.path=out; repeatable", metavar="KEY=VALUE"
        ),
    ] = None,
    config: Annotated[
        str, typer.Option("--config", help=f"file to write (default: {FILE_NAME})", metavar="FILE")
    ] = FILE_NAME,
    save_token: Annotated[
        bool, typer.Option("--save-token", help=f"save the token of {VARIABLE} in a file beside the settings")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="replace the file if there is one")] = False,
) -> int:
    """Write a settings file, and see whether it is right.

    The file has a comment for each setting. Connects to nothing; 'check' does that.
    """
    from cfaudit_export.plugin.registry import load_plugins

    file = Path(config).expanduser()
    if file.exists() and not replace:
        raise UsageError(f"'{file}' is there already; replace it with --replace, or name another with --config")
    token = shell.environ.get(VARIABLE, "").strip() if save_token else ""
    if save_token and not token:
        raise UsageError(f"--save-token: {VARIABLE} is not set")
    plugins = load_plugins(environ=shell.environ)
    asks = _Questions(shell, is_asked=not sink and shell.terminal.is_interactive and sys.stdin.isatty())
    tree = pair_layer(option or ()).tree
    sinks = _sinks(asks, plugins, sink or tree.pop("sink", None))
    answers = Answers(sinks, _source(asks, plugins, source or tree.pop("source", None)), tree)
    answers = answers.with_values(_required(asks, plugins, answers))
    token = token or asks.secret(shell.environ)
    text = settings_text(answers, plugins, token_file=_TOKEN if token else None)
    _write(file, text, token, shell, replace=replace)
    shell.terminal.say(f"wrote '{file}'" + (f" and '{file.parent / _TOKEN}'" if token else ""))
    _show_next(shell, file, has_token=bool(token or shell.environ.get(VARIABLE)))
    return ExitCode.OK


class _Questions:
    """What a person is asked at a terminal; elsewhere every answer is the default."""

    def __init__(self, shell: Shell, *, is_asked: bool) -> None:
        self._shell = shell
        self._is_asked = is_asked

    def text(self, question: str, default: str = "") -> str:
        """Return what is typed, or the default."""
        if not self._is_asked:
            return default
        try:
            return self._shell.terminal.ask(f"{question}{f' [{default}]' if default else ''}: ").strip() or default
        except EOFError:
            raise UsageError("stopped; nothing was written") from None

    def secret(self, environ: Mapping[str, str]) -> str:
        """Return an API token that is typed, without showing it; nothing where there is one in the environment."""
        if not self._is_asked or environ.get(VARIABLE):
            return ""
        prompt = "API token (not shown; leave empty to sign in with a browser later): "
        try:
            return getpass.getpass(prompt, stream=sys.stderr).strip()
        except EOFError:
            return ""


def _sinks(asks: _Questions, plugins: Plugins, given: Any) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else list(given or ())
    if not names:
        known = ", ".join(sorted(plugins.sinks))
        names = asks.text(f"where the events go, one or several of {known}", _SINK).replace(",", " ").split()
    found = tuple(dict.fromkeys(name for one in names for name in one.split(",") if name))
    for name in found:
        plugins.sink(name)
    return found


def _source(asks: _Questions, plugins: Plugins, given: Any) -> str:
    listed = ", ".join((AUTO, *AUTO_SOURCES))
    name = str(given or asks.text(f"where they come from: {listed}", AUTO))
    if name != AUTO:
        plugins.source(name)
    return name


def _required(asks: _Questions, plugins: Plugins, answers: Answers) -> dict[str, str]:
    """Return what the sinks cannot do without and no option says."""
    found = {}
    for key, about in required_keys(answers, plugins):
        value = asks.text(f"{key}: {about}", _DEFAULTS.get(key, ""))
        if not value:
            raise MissingAnswerError(f"'{key}' is missing; give it as in -o {key}=VALUE")
        found[key] = value
    return found


def _write(file: Path, text: str, token: str, shell: Shell, *, replace: bool) -> None:
    """Write the settings, and the token, if they are right; else nothing is left of them."""
    tomllib.loads(text)
    try:
        make_folder(file.parent)
        with replacing(file.with_name(f".{file.name}.new")) as draft:
            draft.write(text.encode())
        try:
            _require_right(file.with_name(f".{file.name}.new"), shell)
        finally:
            file.with_name(f".{file.name}.new").unlink()
        if token:
            with replacing(file.parent / _TOKEN) as secret:
                secret.write(f"{token}\n".encode())
        if replace:
            with replacing(file) as kept:
                kept.write(text.encode())
        elif not create_file(file, text.encode()):
            raise UsageError(f"'{file}' is there already; replace it with --replace")
    except OSError as error:
        raise SettingsError(f"cannot write '{file}': {error.strerror or error}") from error


def _require_right(file: Path, shell: Shell) -> None:
    """Read the settings as a run does.

    Raises:
        CfauditError: they are wrong, and why.
    """
    from cfaudit_export.app.resolve import check_names, resolve_sink
    from cfaudit_export.plugin.registry import load_plugins

    plugins = load_plugins(environ=shell.environ)
    try:
        settings = load_settings(Given(file), environ={}, now=shell.clock(), directory=file.parent)
        check_names(settings, plugins)
        for name in settings.sink:
            resolve_sink(settings, plugins, name)
    except CfauditError as error:
        raise SettingsError(str(error).replace(str(file), "the answers")) from error


def _show_next(shell: Shell, file: Path, *, has_token: bool) -> None:
    called = program()
    named = "" if file == Path(FILE_NAME) else f" --config {file}"
    steps: Sequence[str] = (*(() if has_token else ("login",)), "check", "run")
    shell.terminal.say("next: " + ", ".join(f"{called} {step}{named}" for step in steps))
