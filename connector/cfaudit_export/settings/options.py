"""The one table of what can be set: command line, variables, TOML file and documentation are made from it."""

from __future__ import annotations

from cfaudit_export.core.filters import AUDITLOGS_FILTERS
from cfaudit_export.settings import values
from cfaudit_export.settings.integrity import INTEGRITY_OPTIONS
from cfaudit_export.settings.option import (
    ASK,
    DEFAULT_PROFILE,
    FILTERS,
    HOW,
    LOGS,
    PREFIX,
    PROOF,
    SIGN_IN,
    WATCH,
    WHAT,
    WHERE,
    Option,
)
from cfaudit_export.settings.sign_in import SIGN_IN_OPTIONS

__all__ = [
    "ASK",
    "DEFAULT_PROFILE",
    "FILTERS",
    "HOW",
    "LOGS",
    "OPTIONS",
    "PREFIX",
    "PROOF",
    "SIGN_IN",
    "WATCH",
    "WHAT",
    "WHERE",
    "Option",
]

_FILTERS = {
    "account_name": "name of the account",
    "action_result": "how the action ended",
    "action_type": "sort of action",
    "actor_context": "how the actor signed in",
    "actor_email": "the actor's email address",
    "actor_id": "the actor's id",
    "actor_ip_address": "the actor's IP address",
    "actor_token_id": "id of the token that was used",
    "actor_token_name": "name of the token that was used",
    "actor_type": "sort of actor",
    "audit_log_id": "id of the event",
    "raw_cf_ray_id": "Cloudflare Ray ID of the request",
    "raw_method": "HTTP method of the request",
    "raw_status_code": "HTTP status of the reply",
    "raw_uri": "URI of the request",
    "resource_id": "id of the resource",
    "resource_product": "product of the resource",
    "resource_type": "sort of resource",
    "resource_scope": "scope of the resource",
    "zone_id": "id of the zone",
    "zone_name": "name of the zone",
}
_SHORT_FLAGS = {"action_result": "--result", "actor_context": "--context", "resource_product": "--product"}
_FILTER_READERS: dict[str, tuple[values.Reader, str]] = {
    "actor_email": (values.email, "EMAIL"),
    "raw_status_code": (values.status, "STATUS"),
}


def _filter(name: str, choices: tuple[str, ...] | None) -> Option:
    read, metavar = _FILTER_READERS.get(name, (values.text, "TEXT"))
    if choices is not None:
        read, metavar = values.choice(*choices), "|".join(one for one in choices if one)
    flags = (*([_SHORT_FLAGS[name]] if name in _SHORT_FLAGS else []), "--" + name.replace("_", "-"))
    return Option(f"filters.{name}", read, _FILTERS[name], FILTERS, metavar, flags)


OPTIONS: tuple[Option, ...] = (
    Option(
        "account",
        values.accounts,
        "account to export; several, or 'all' that the credential sees, run one after the other",
        WHAT,
        "ID",
        ("--account",),
        "the one the token sees",
        repeats=True,
    ),
    Option(
        "trust_account", values.switch, "the account is right, though no server says so", WHAT, "", ("--trust-account",)
    ),
    Option(
        "since",
        values.moment,
        "oldest time wanted",
        WHAT,
        "TIME",
        ("--since",),
        "resume at the checkpoint; first run: last 30 days",
    ),
    Option("until", values.moment, "time to stop before", WHAT, "TIME", ("--until",), "now, less the settle lag"),
    Option(
        "slice", values.switch, "export from since to until beside other slices of the account", WHAT, "", ("--slice",)
    ),
    Option("source", values.text, "where events are read from; auto chooses", WHAT, "NAME", ("--source",), "auto"),
    Option(
        "fill_gaps_from",
        values.text,
        "second source, asked for what the first one cannot read",
        WHAT,
        "NAME",
        ("--fill-gaps-from",),
        "gaps stay",
    ),
    Option(
        "server_url",
        values.url,
        "MCP server or gateway of the source",
        WHAT,
        "URL",
        ("--server-url",),
        "Cloudflare's",
        source_key="server_url",
    ),
    Option(
        "header",
        values.headers,
        "request header, its value taken from a variable",
        WHAT,
        "NAME=ENVVAR",
        ("--header",),
        repeats=True,
        source_key="headers",
    ),
    Option(
        "insecure_http",
        values.switch,
        "send credentials over plain http, also to other machines",
        WHAT,
        "",
        ("--insecure-http",),
        source_key="insecure_http",
    ),
    Option(
        "profile", values.text, "which of several sign-ins at one server", WHAT, "NAME", ("--profile",), DEFAULT_PROFILE
    ),
    Option(
        "token_file", values.path, "file that holds the API token, where CLOUDFLARE_API_TOKEN is not set", WHAT, "FILE"
    ),
    Option(
        "token_keyring",
        values.text,
        "name under which the system keyring holds the API token, in the service cfaudit-export",
        WHAT,
        "NAME",
    ),
    Option(
        "sink", values.names, "destination; several are served independently", WHERE, "NAME", ("--sink",), repeats=True
    ),
    Option("transform", values.names, "change events on the way", WHERE, "NAME", ("--transform",), repeats=True),
    Option(
        "adopt_destination",
        values.switch,
        "the data was moved: go on where the sinks deliver to now",
        WHERE,
        "",
        ("--adopt-destination",),
    ),
    Option(
        "state_dir",
        values.path,
        "folder of checkpoints and staged batches",
        WHERE,
        "DIR",
        ("--state-dir",),
        "the user's state folder",
    ),
    *SIGN_IN_OPTIONS,
    *(_filter(name, choices) for name, choices in AUDITLOGS_FILTERS.items()),
    Option(
        "recover",
        values.recover,
        "rebuild columns that the source cuts off",
        HOW,
        "auto|off|all",
        ("--recover",),
        "auto",
    ),
    Option(
        "fail_on_trimmed",
        values.switch,
        "end with 65 when more than 1 % of the events lack columns for a day",
        HOW,
        "",
        ("--fail-on-trimmed",),
    ),
    Option(
        "settle_lag",
        values.length,
        "skip events newer than this (late arrivals)",
        HOW,
        "DURATION",
        ("--settle-lag",),
        "5m",
    ),
    Option("rescan", values.length, "re-read this far back for late events", HOW, "DURATION", ("--rescan",), "6h"),
    Option("max_wait", values.length, "longest wait before exit 75", HOW, "DURATION", ("--max-wait",), "unbounded"),
    Option(
        "concurrency",
        values.count,
        "windows read at once",
        HOW,
        "N",
        ("--concurrency",),
        "the source's own",
        source_key="concurrency",
    ),
    Option(
        "metrics_file", values.path, "file for Prometheus' node exporter to serve", WATCH, "FILE", ("--metrics-file",)
    ),
    Option(
        "metrics_name",
        values.text,
        "name of this export in metrics, to tell several apart",
        WATCH,
        "NAME",
        ("--metrics-name",),
        "that of the metrics file",
    ),
    Option(
        "otlp_endpoint",
        values.url,
        "OpenTelemetry collector that gets metrics and traces",
        WATCH,
        "URL",
        ("--otlp-endpoint",),
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    Option("ping_url", values.text, "monitor that is told when a run starts and how it ends", WATCH, "URL"),
    *INTEGRITY_OPTIONS,
    Option(
        "sql_memory_mb",
        values.count,
        "memory for questions, in MB, beside that of the rows that are read",
        ASK,
        "MB",
        default="1024",
    ),
    Option("sql_threads", values.count, "threads for questions", ASK, "N", default="one a processor"),
    Option(
        "sql_spill_mb",
        values.count,
        "temporary files of questions, in MB; they hold events, and lie in a folder of TMPDIR for this user only",
        ASK,
        "MB",
        default="10240",
    ),
    Option(
        "log_format",
        values.choice("text", "json"),
        "form of the log lines on stderr",
        LOGS,
        "text|json",
        ("--log-format",),
        "text on a terminal, else json",
    ),
    Option(
        "verbosity",
        values.level,
        "say more; twice: also what libraries say",
        LOGS,
        "",
        ("-v", "--verbose"),
        repeats=True,
    ),
)
"""Every option, in the order of `--help`."""
