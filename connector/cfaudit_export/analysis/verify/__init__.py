"""Exported files, their manifests and a public key -> what is proved, and what is not.

No network, no state, no settings.

findings  what was found, and how it is said
records   the manifests of a place, read
trust     which manifests are signed, by which keys
links     which manifests follow each other
stamps    which manifests an authority has stamped, and when
expected  what manifests say that is there
intended  what was removed or erased on purpose
files     what is there
rows      whether rows are those that were exported, and none is there twice
extract   rows that were taken out of a warehouse
coverage  which time is proved
anchors   what proves where a chain ends
verify    all of it, in order
verified  what all of it found
"""
