"""The auditor's own program: manifests and files against a public key, by hashlib, json, openssl and pyarrow alone."""

import base64
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

root, key, wrong, holes = Path(sys.argv[1]), Path(sys.argv[2]).read_text(), [], []
PLACED = ("batch_id", "body_nonce", "body_sha256")
BODIES = ("event_raw", "resource_request", "resource_response", "resource_value")
sha = lambda data: hashlib.sha256(data).hexdigest()  # noqa: E731  # sixty lines are few


def signed(pem: str, payload: bytes, signatures: list[dict[str, str]]) -> bool:
    kind = b"application/vnd.in-toto+json"
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    with tempfile.TemporaryDirectory() as folder:
        for one in signatures:
            for name, content in (("k", pem.encode()), ("p", pae), ("s", base64.b64decode(one["sig"]))):
                Path(folder, name).write_bytes(content)
            words = "openssl pkeyutl -verify -pubin -inkey k -rawin -in p -sigfile s".split()  # noqa: SIM905  # as typed
            if subprocess.run(words, cwd=folder, check=False, capture_output=True).returncode == 0:
                return True
    return False


def leaf(row: dict[str, object]) -> bytes:
    there = {name: value for name, value in row.items() if value is not None and name not in PLACED}
    salt = bytes.fromhex(str(row.get("body_nonce") or ""))
    said = {name: sha(salt + str(value).encode()) if name in BODIES else value for name, value in there.items()}
    said |= json.loads(str(row.get("body_sha256") or "{}"))
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()).digest()


files, batches, covered, rows, seen, erased = {}, {}, [], {}, set(), {}
for folder in sorted((root / "_cfaudit/manifests").glob("*/*")):
    before, trusted, number = None, key, 0
    for number, path in enumerate(sorted(folder.glob("*.json")), 1):
        document = path.read_bytes()
        envelope, previous, before = json.loads(document), before, sha(document)
        payload = base64.b64decode(envelope["payload"])
        statement = json.loads(payload)
        said, digests = statement["predicate"], {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        if not signed(trusted, payload, envelope["signatures"]):
            wrong.append(f"{path.name}: its signature is not that of the key")
        if path.name != f"{number:08d}.json" or said["sequence"] != number or said["previous"] != previous:
            wrong.append(f"{path.name}: does not follow the one before it")
        if said["kind"] == "key" and signed(said["key"]["new"], payload, envelope["signatures"]):
            trusted = said["key"]["new"]
        for replaced in said.get("replaced", []):
            for old in replaced["old"]:
                files.pop(old["name"], None)
            if replaced["new"]:
                files[replaced["new"]["name"]] = digests[replaced["new"]["name"]]
            erased |= {} if replaced["new"] else {(part["batch_id"], ""): None for part in replaced["parts"]}
        for one in said.get("erased", []):  # its leaf as it was; without one, its batch rests on the record
            erased.setdefault((one["batch_id"], one["event_id"]), one["leaf"])
        for batch in said["batches"]:
            batches[batch["batch_id"]] = batch["rows_sha256"]
            files |= {file["name"]: digests[file["name"]] for file in batch["files"]}
        covered += said["covered"]
there = {path.relative_to(root).as_posix(): path for path in root.rglob("*.parquet")}
wrong += [f"{name}: no manifest names it" for name in there.keys() - files.keys()]
for name, digest in files.items():
    if name not in there or sha(there[name].read_bytes()) != digest:
        wrong.append(f"{name}: is not what was exported")
        continue
    table = pq.read_table(there[name], partitioning=None)
    for column in ("event_time", "ingested_at"):
        table = table.set_column(table.column_names.index(column), column, table[column].cast("int64"))
    for row in table.to_pylist():
        was = erased.get((row["batch_id"], row["event_id"]))
        rows.setdefault(row["batch_id"], []).append(bytes.fromhex(was) if was else leaf(row))
        wrong += [f"{row['event_id']}: is there twice"] if row["event_id"] in seen else []
        seen.add(row["event_id"])
rests = {id_ for (id_, _), was in erased.items() if not was}
rows = {id_: sha(b"".join(sorted(some))) for id_, some in rows.items()}
wrong += [f"{id_}: other rows" for id_ in batches.keys() - rests if rows.get(id_) != batches[id_]]
covered.sort()
for earlier, later in zip(covered, covered[1:]):  # noqa: B905, RUF007  # of two lists, one is shorter
    if later[0] > max(end for start, end in covered if start <= earlier[0]):
        holes.append(f"{earlier[1]} to {later[0]}: not covered")
print("\n".join(wrong + holes))
sys.exit(1 if wrong else 65 if holes else 0)
