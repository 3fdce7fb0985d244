"""Exported Parquet files in, answers out: reports, sequences, SQL; and fewer, larger files.

files/    where files lie, which of them hold events, and the events as one table in DuckDB
answers/  a question -> facts: reports, timelines, and what of a period was exported at all
rules/    what deserves a look, and why
render/   facts -> a terminal, one HTML file, JSON

Nothing here is imported before it is needed, and DuckDB is an extra: `cfaudit-export[analysis]`.
"""
