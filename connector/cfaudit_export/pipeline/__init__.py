"""The flow, one file a step; no step imports another, only `run` and its `deliver` import them all.

plan     what is wanted, less what is covered, plus the rescan horizon   -> windows
extract  the source reads the windows, concurrently                      -> pieces with their gaps
map      a piece becomes rows of the schema, with identity               -> table
stage    what a sink has not seen is written to disk: fsync, rename      -> batch
load     the sink makes the batch durable                                -> receipt
commit   the checkpoint says so: intent before the load, covered after it
seal     after the last piece, a manifest names what was delivered       -> anchor

Beside them: `context` is what a run is given, `deliver` does what comes after `map`, `again` finds what is new where it
is likely that nothing is, `share` finds what a sink lacks of a piece, `seen` knows which events it has, `ledger` writes
the checkpoint, `answer` takes what a sink says with care, `quarantine` keeps what it refuses for good, `replay` loads
that again; `slices` runs parts of a stream beside each other. `sealing` writes manifests and compares them with the
checkpoint, `manifests` says what is in one, and `proving` what of a batch.
"""
