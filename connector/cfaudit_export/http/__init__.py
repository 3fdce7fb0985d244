"""HTTP requests that end: bounded in time and in bytes, whatever a server does."""
