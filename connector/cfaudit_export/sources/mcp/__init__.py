"""A session with an MCP server: calls within a budget, retries, and what each failure means."""
