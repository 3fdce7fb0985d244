"""Exported Parquet files in, answers out: reports, sequences, SQL; and fewer, larger files.

places    where files lie: a folder, or a prefix in S3
files     which of them hold events, and what their footers say
shelf     the files a question is about, found by the names of folders; only these are looked at
data      the events as a DuckDB view
question  what is asked: period, accounts, filters
words     what counts as an actor, a credential, a sign-in, a sensitive change
coverage  what of a period was exported at all
facts     the values of a report
report    questions -> facts
timeline  events -> sessions of folded steps
statement SQL in, rows in the form that is wanted out
compact   the small files of a day -> one

Nothing here is imported before it is needed, and DuckDB is an extra: `cfaudit-export[analysis]`.
"""
