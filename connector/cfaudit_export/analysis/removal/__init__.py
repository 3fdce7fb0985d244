"""Sealed files, removed or rewritten on purpose, and recorded in the chain that names them, so that proof stays true.

storage    where files can be removed and replaced, manifests beside them
trusted    what manifests say that is there, from chains that are whole
record     what was done -> a manifest of kind `retention`, written before it is done
retention  old days -> removed
person     which events name a person, and what of them is erased
rewrite    a file -> the same without what is erased
erase      files that name a person -> rewritten
"""
