"""DAGs to start from."""
