"""The emulated code-mode server."""
