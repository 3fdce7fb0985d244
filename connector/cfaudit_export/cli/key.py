"""The command `key`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS

if TYPE_CHECKING:
    from cfaudit_export.proof.keys import SigningKey

_ACTIONS = ("new", "show", "rotate", "identity")
_EPILOG = """
'new' writes a signing key (Ed25519, PKCS#8) into a file for its owner only,
and prints the public key. Name the file in integrity.key_file or in
CFAUDIT_SIGNING_KEY_FILE, and give the public key to those who verify. 'show'
prints the public key of the key in use, or of --key-file.

'rotate' makes a new key take the place of the one in use: it writes into each
chain of manifests that the key was changed, signed by both. Then name the new
file in the settings. Manifests that the old key signed before stay good, and
either public key proves the whole chain. After an error, do it again.

'identity' writes another kind of key, for identity.key_file: the secret from
which event_key is made, so that the names in it cannot be guessed. Make one for
all your exports, before the first, and keep a copy: it cannot be changed.

Keep the signing key away from the exported data: with both, a person can change
the data and sign the change.

Examples:
  cfaudit-export key new --out signing.pem > audit.pub
  cfaudit-export key show --key-file signing.pem > audit.pub
  cfaudit-export key rotate --out next.pem > next.pub
  cfaudit-export key identity --out identity.key
"""


@command("state_dir", LOGS, epilog=_EPILOG)
def key(
    shell: Shell,
    settings: Settings,
    *,
    action: Annotated[str, typer.Argument(help="what to do", metavar="|".join(_ACTIONS), show_default=False)],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="file for the new key; with 'new' and 'identity' there must be none", metavar="FILE"
        ),
    ] = None,
    key_file: Annotated[
        str | None,
        typer.Option("--key-file", help="the signing key (default: integrity.key_file)", metavar="FILE"),
    ] = None,
    json: Json = False,
) -> int:
    """Create, show or change keys of proof and identity."""
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
    elif action == "identity":
        return _new_identity(shell, out, json=json)
    elif action == "rotate":
        if out is None:
            raise UsageError("say where the new signing key goes, as in --out next.pem")
        found = _rotated(shell, settings, Path(out).expanduser())
    else:
        raise UsageError(f"expected one of {', '.join(_ACTIONS)}, not '{action}'")
    public = found.public
    shell.terminal.answer(as_json({"id": public.id, "public_key": public.pem}) if json else public.pem)
    return ExitCode.OK


def _new_identity(shell: Shell, out: str | None, *, json: bool) -> int:
    """Write an identity key, and print its id."""
    from cfaudit_export.core.identity_key import new_identity_key

    if out is None:
        raise UsageError("say where the identity key goes, as in --out identity.key")
    made = new_identity_key(Path(out).expanduser())
    shell.terminal.say(f"wrote the identity key to '{out}'; name it in identity.key_file, and keep a copy. Its id is:")
    shell.terminal.answer(as_json({"id": made.id}) if json else made.id)
    return ExitCode.OK


def _rotated(shell: Shell, settings: Settings, path: Path) -> SigningKey:
    """Change the key of every chain to the one in a file, which is made if it is not there; return it."""
    from cfaudit_export.app.resolve import check_names, open_store
    from cfaudit_export.app.rotate import rotate
    from cfaudit_export.plugin.registry import load_plugins
    from cfaudit_export.proof.keys import load_key, new_key, write_key

    if settings.integrity.key_file is None:
        raise UsageError("no key is set in integrity.key_file, so there is none to take the place of")
    plugins = load_plugins(environ=shell.environ)
    check_names(settings, plugins)
    if not path.exists():
        write_key(new_key(), path)
    new, count = load_key(path), 0
    for one in rotate(settings, plugins, open_store(settings, plugins), new, shell.clock):
        count += 1
        shell.terminal.say(f"{one.chain}: manifest {one.link.sequence} says that the key was changed")
    shell.terminal.say(f"changed the key of {count} chains; set integrity.key_file to '{path}' before the next run")
    shell.terminal.say(f"this is the public key of '{path}', with id {new.id}:")
    return new
