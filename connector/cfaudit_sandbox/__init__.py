"""A stand-in for Cloudflare on the loopback: accounts with audit logs, behind an emulated Audit Logs MCP server.

    with Sandbox(World(SandboxOptions(events=10_000))) as sandbox:
        print(sandbox.mcp_url, sandbox.world.tokens["user"])

`SandboxOptions` says what the data is like and how the server behaves, `World` holds the data and the truth to
compare an export with, `Sandbox` serves it from a thread, `serve` in the foreground.
"""

from cfaudit_sandbox.serve import Sandbox, serve
from cfaudit_sandbox.server.requests import RequestLog, SeenRequest
from cfaudit_sandbox.world.composer import SandboxAccount
from cfaudit_sandbox.world.drift import DRIFTS
from cfaudit_sandbox.world.options import RUNTIME_KNOBS, SandboxOptions
from cfaudit_sandbox.world.paging import AuditPage
from cfaudit_sandbox.world.poison import POISON_KINDS
from cfaudit_sandbox.world.query import AuditQuery
from cfaudit_sandbox.world.world import PoisonRow, World

__all__ = [
    "DRIFTS",
    "POISON_KINDS",
    "RUNTIME_KNOBS",
    "AuditPage",
    "AuditQuery",
    "PoisonRow",
    "RequestLog",
    "Sandbox",
    "SandboxAccount",
    "SandboxOptions",
    "SeenRequest",
    "World",
    "serve",
]
