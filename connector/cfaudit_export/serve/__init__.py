"""Exported data -> an MCP server that answers questions about it.

The process that speaks MCP opens no data: a child, `worker`, does, within limits of memory and time that the system
enforces, and is replaced when it exceeds them.

server     the protocol: tools, prompts, one resource; one log line a call
tools      what can be asked; `arguments` checks a call
prompts    questions that people ask, as clients offer them
standard   over stdin and stdout; `web` over HTTP, for whom `access` and `jwt` let in
child      the handle of the worker
worker     the process that answers; `archive` is the data that it holds open
answers/   one module for each tool: arguments -> an answer
"""
