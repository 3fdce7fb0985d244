"""Proof that exported files are what was exported: digests of rows, signed manifests in a chain, keys.

rows      events -> digests that no order, file or writer changes
canonical values -> RFC 8785 JSON, and back, strictly
envelope  bytes -> a signed DSSE envelope, and back
manifest  what a run stored and covered -> the statement that is signed, and back
chain     the names of manifests, and which one follows which
keys      Ed25519 keys in files
"""
