"""The built-in sources, offered like those of others. Each is an entry point of its own."""
