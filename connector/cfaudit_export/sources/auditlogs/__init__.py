"""The source `auditlogs`: Cloudflare's Audit Logs MCP server, six fields an event, no ids, one tool."""
