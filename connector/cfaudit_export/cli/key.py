"""The command `key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS

_ACTIONS = ("new", "show")
_EPILOG = """
'new' writes a signing key (Ed25519, PKCS#8) into a file for its owner only,
and prints the public key. Name the file in integrity.key_file or in
CFAUDIT_SIGNING_KEY_FILE, and give the public key to those who verify. 'show'
prints the public key of the key in use, or of --key-file.

Keep the signing key away from the exported data: who has both can write both.

Examples:
  cfaudit-export key new --out signing.pem > audit.pub
  cfaudit-export key show --key-file signing.pem > audit.pub
"""


@command(LOGS, epilog=_EPILOG)
def key(
    shell: Shell,
    settings: Settings,
    *,
    action: Annotated[str, typer.Argument(help="what to do", metavar="|".join(_ACTIONS), show_default=False)],
    out: Annotated[
        str | None, typer.Option("--out", help="file for the new signing key; there must be none", metavar="FILE")
    ] = None,
    key_file: Annotated[
        str | None,
        typer.Option("--key-file", help="the signing key (default: integrity.key_file)", metavar="FILE"),
    ] = None,
    json: Json = False,
) -> int:
    """Create or show the key that signs manifests."""
    from cfaudit_export.proof.keys import load_key, new_key, write_key

    if action == "new":
        if out is None:
            raise UsageError("say where the signing key goes, as in --out signing.pem")
        found = new_key()
        write_key(found, Path(out).expanduser())
        shell.terminal.say(f"wrote the signing key to '{out}'; this is the public key, with id {found.id}:")
    elif action == "show":
        named = Path(key_file).expanduser() if key_file else settings.integrity.key_file
        if named is None:
            raise UsageError("say which key, as in --key-file signing.pem, or set integrity.key_file")
        found = load_key(named)
        shell.terminal.say(f"this is the public key of '{named}', with id {found.id}:")
    else:
        raise UsageError(f"expected one of {', '.join(_ACTIONS)}, not '{action}'")
    public = found.public
    shell.terminal.answer(as_json({"id": public.id, "public_key": public.pem}) if json else public.pem)
    return ExitCode.OK
