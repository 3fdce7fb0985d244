"""The commands `pseudonym` and `reveal`, for those who hold the keys of a transform."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.errors import ExitCode, SettingsError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS

_TransformName = Annotated[
    str, typer.Option("--with", help="the transform that has the keys (default: redact)", metavar="NAME")
]


@command(
    LOGS,
    epilog="""
Answers who asks for all that is stored about a person, and finds out whose a
pseudonym is by trying the list of members. A person has another pseudonym in
the time of each key.

Example:
  cfaudit-export pseudonym ada@example.com
""",
)
def pseudonym(
    shell: Shell,
    settings: Settings,
    *,
    values: Annotated[list[str], typer.Argument(help="e-mail address, id or name", metavar="TEXT", show_default=False)],
    transform: _TransformName = "redact",
    json: Json = False,
) -> int:
    """Show the pseudonyms of a person."""
    made = _ability(shell, settings, transform, "pseudonyms")
    found = {value: list(made(value)) for value in values}
    if json:
        shell.terminal.answer(as_json(found))
    else:
        for value, names in found.items():
            for name in names:
                shell.terminal.answer(f"{escaped(value)}\t{name}" if len(found) > 1 else name)
    return ExitCode.OK


@command(
    LOGS,
    epilog="""
Reads text from stdin and writes it with every encrypted value in it readable,
of which the key is there.

Example:
  cfaudit-export sql "FROM audit_events" --format csv | cfaudit-export reveal
""",
)
def reveal(shell: Shell, settings: Settings, *, transform: _TransformName = "redact") -> int:
    """Decrypt values in a text from stdin."""
    plain = _ability(shell, settings, transform, "reveal")
    for line in sys.stdin:
        sys.stdout.write(plain(line))
    return ExitCode.OK


def _ability(shell: Shell, settings: Settings, name: str, ability: str) -> Callable[[str], Any]:
    """Return what a transform can do for those who hold its keys.

    Raises:
        SettingsError: it has no keys.
    """
    from cfaudit_export.app.resolve import check_names
    from cfaudit_export.app.transforms import built_transform
    from cfaudit_export.plugin.registry import load_plugins

    plugins = load_plugins(environ=shell.environ)
    check_names(settings, plugins)
    found: Callable[[str], Any] | None = getattr(built_transform(settings, plugins, name).apply, ability, None)
    if found is None:
        raise SettingsError(f"transform '{name}' has no keys that could do that")
    return found
