"""The emulated authorization server, and who signs in there."""
