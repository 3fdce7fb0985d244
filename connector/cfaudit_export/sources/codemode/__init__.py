"""The source `codemode`: whole records, through the Cloudflare API MCP server."""
