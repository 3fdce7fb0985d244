"""Exported files: listed, checked, and opened as one table in DuckDB."""
