"""The emulated Audit Logs server, and the Cloudflare API behind it."""
