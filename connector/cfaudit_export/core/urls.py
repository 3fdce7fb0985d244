"""URLs: where a secret may travel, and when two of them name the same thing."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from cfaudit_export.core.escape import shown
from cfaudit_export.errors import SettingsError

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_secret_url(url: str, what: str, *, allow: str, insecure_http: bool = False) -> None:
    """Refuse a URL to which no secret may be sent: one that `is_safe` does not accept.

    Args:
        url: where something secret, or something personal, is about to be sent.
        what: what travels there, for the message: `the token`, `events`.
        allow: the setting that allows plain http, as the user would write it: `--insecure-http`.
        insecure_http: whether that setting is on.

    Raises:
        SettingsError: it is one.
    """
    if is_safe(url, insecure_http=insecure_http):
        return
    if is_safe(url, insecure_http=True):
        raise SettingsError(f"{what} would travel in clear text to '{without_secrets(url)}'; use https, or {allow}")
    raise SettingsError(f"'{without_secrets(url)}' is not the URL of a server; it should look like https://host/path")


def without_secrets(url: str) -> str:
    """Return scheme, host and path of `url` for messages: without what may be a password or a key."""
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an unreadable URL"
    return shown(urlunsplit((parts.scheme, place, parts.path, "", "")))


def is_safe(url: str, *, insecure_http: bool = False) -> bool:
    """Say whether a secret may travel to `url`: https, or plain http that stays on this machine (RFC 8252, 8.3)."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or not (url.isascii() and url.isprintable()):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and (insecure_http or _is_loopback(host)))


def is_within(url: str) -> bool:
    """Say whether `url` names, by its address, this machine or a network that is not the public one."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def canonical(url: str) -> str:
    """Return `url` in the one spelling in which two names of a resource are compared (RFC 3986, 6.2.2 and 6.2.3).

    Lower case scheme and host, no default port, no fragment, no bare slash. The path is left as it is.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(scheme)) else f":{parts.port}"
    path = "" if parts.path == "/" and not parts.query else parts.path
    return urlunsplit((scheme, host + port, path, parts.query, ""))


def origin_of(url: str) -> str:
    """Return scheme, host and port of `url`, in canonical spelling."""
    parts = urlsplit(canonical(url))
    return f"{parts.scheme}://{parts.netloc}"
