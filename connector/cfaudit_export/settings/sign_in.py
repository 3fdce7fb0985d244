"""What can be set about signing in; part of the one table in `options`."""

from __future__ import annotations

from cfaudit_export.settings import values
from cfaudit_export.settings.option import SIGN_IN, Option

SIGN_IN_OPTIONS: tuple[Option, ...] = (
    Option(
        "client_id",
        values.text,
        "client registered at the server, or URL of its metadata document",
        SIGN_IN,
        "ID",
        ("--client-id",),
        "register one",
    ),
    Option(
        "client_secret_variable",
        values.variable,
        "variable that holds the secret of the client",
        SIGN_IN,
        "ENVVAR",
        ("--client-secret-variable",),
    ),
    Option(
        "client_secret_file",
        values.path,
        "file that holds the secret of the client",
        SIGN_IN,
        "FILE",
        ("--client-secret-file",),
    ),
    Option("scope", values.text, "what to ask for", SIGN_IN, "TEXT", ("--scope",), "what the server suggests"),
    Option(
        "redirect_port",
        values.port,
        "port of this machine to which the browser returns",
        SIGN_IN,
        "PORT",
        ("--redirect-port",),
        "any that is free",
    ),
    Option(
        "grant_days",
        values.days,
        "how long a sign-in lasts, in days, where the server does not say",
        SIGN_IN,
        "DAYS",
        ("--grant-days",),
        "30 at Cloudflare's servers",
    ),
    Option(
        "oauth_resource",
        values.choice("send", "omit"),
        "name the MCP server in requests for tokens (RFC 8707); some servers refuse that",
        SIGN_IN,
        "send|omit",
        default="send",
    ),
    Option(
        "oauth_registration_scope",
        values.choice("send", "omit"),
        "name the scope when registering; some servers refuse that",
        SIGN_IN,
        "send|omit",
        default="send",
    ),
    Option(
        "oauth_pkce",
        values.choice("listed", "always"),
        "sign in where the server lists PKCE with S256, or use it without being listed",
        SIGN_IN,
        "listed|always",
        default="listed",
    ),
    Option(
        "oauth_origins",
        values.names,
        "further origins of the authorization server, where it names endpoints of other hosts than its own",
        SIGN_IN,
        "URL",
    ),
    Option(
        "keyring",
        values.choice("auto", "off"),
        "keep sign-ins in the system keyring, or in a file of the state folder",
        SIGN_IN,
        "auto|off",
        ("--keyring",),
        "auto",
    ),
)
