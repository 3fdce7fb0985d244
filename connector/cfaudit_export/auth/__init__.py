"""Who we are: settings and environment -> the credential that a source asks for its bearer token."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cfaudit_export.auth.token import VARIABLE, NoCredential, TokenCredential, read_token_file
from cfaudit_export.errors import AccessError
from cfaudit_export.records import Credential
from cfaudit_export.settings import Settings


def credential_for(
    settings: Settings, *, environ: Mapping[str, str], hide: Callable[[str], None] = lambda _secret: None
) -> Credential:
    """Return the credential of a run: the API token of the environment, else of `token_file`, else none for a gateway.

    Args:
        settings: `token_file` and `header` count.
        environ: `CLOUDFLARE_API_TOKEN`, and the variables that headers take their values from.
        hide: told of every secret that is found.

    Raises:
        AccessError: there is none.
        SettingsError: what is there cannot be a token, or the file cannot be read.
    """
    for variable in settings.header.values():
        hide(environ.get(variable, ""))
    if token := environ.get(VARIABLE):
        hide(token)
        return TokenCredential(token)
    if settings.token_file:
        token = read_token_file(settings.token_file)
        hide(token)
        return TokenCredential(token, where=f"token_file '{settings.token_file}'")
    if settings.header:
        return NoCredential()
    raise AccessError(f"no credential: set {VARIABLE} to an API token, or token_file to a file that holds one")
