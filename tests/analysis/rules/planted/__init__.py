"""Accounts as they are every week, and attacks that are planted in them."""
