"""What pages of whole records are asked of, and how a code-mode server is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cfaudit_export.sources.codemode.fault import CodemodeFault, tool_fault
from cfaudit_export.sources.codemode.frame import Frame, read_frame
from cfaudit_export.sources.codemode.snippet import Parameters, write_code
from cfaudit_export.sources.mcp.session import Session


class PageCalls(Protocol):
    """What pages are asked of: the tool of a server, or an API."""

    async def ask(self, asked: Parameters) -> Frame | CodemodeFault:
        """Ask once.

        Raises:
            CallFailedError: there is no reply.
            CutError: the reply was cut off.
            CfauditError: from the credential.
        """
        ...


class SnippetCalls:
    """Asks a code-mode server, by the one fixed snippet. Fits `PageCalls`."""

    def __init__(self, session: Session, tool: str, arguments: Mapping[str, Any]) -> None:
        """Build it.

        Args:
            session: with the server.
            tool: the tool's name.
            arguments: sent with every call beside the code: the account, where the tool takes it.
        """
        self._session = session
        self._tool = tool
        self._arguments = arguments

    async def ask(self, asked: Parameters) -> Frame | CodemodeFault:
        """Call the tool once; as `PageCalls.ask`."""
        reply = await self._session.call(self._tool, {**self._arguments, "code": write_code(asked)})
        return tool_fault(reply.text) if reply.is_error else read_frame(reply.text)
