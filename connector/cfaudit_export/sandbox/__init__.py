"""A stand-in for Cloudflare on the loopback: accounts with audit logs, behind an emulated Audit Logs MCP server.

    with Sandbox(World(SandboxOptions(events=10_000))) as sandbox:
        print(sandbox.mcp_url, sandbox.world.tokens["user"])

`SandboxOptions` says what the data is like and how the server behaves, `World` holds the data and the truth to
compare an export with, `Sandbox` serves it from a thread, `serve` in the foreground.
"""

from cfaudit_export.sandbox.composer import Account
from cfaudit_export.sandbox.drift import DRIFTS
from cfaudit_export.sandbox.options import RUNTIME_KNOBS, SandboxOptions
from cfaudit_export.sandbox.paging import Page
from cfaudit_export.sandbox.poison import POISON_KINDS
from cfaudit_export.sandbox.query import Query
from cfaudit_export.sandbox.requests import RequestLog, Seen
from cfaudit_export.sandbox.server import Sandbox, serve
from cfaudit_export.sandbox.world import PoisonRow, World

__all__ = [
    "DRIFTS",
    "POISON_KINDS",
    "RUNTIME_KNOBS",
    "Account",
    "Page",
    "PoisonRow",
    "Query",
    "RequestLog",
    "Sandbox",
    "SandboxOptions",
    "Seen",
    "World",
    "serve",
]
