#!/usr/bin/env python3
"""Restore a sealift repository without sealift.

    recover.py REPOSITORY_DIR IDENTITY TARGET_DIR [SEQUENCE] [--signer KEY]

Needs Python 3.9, age, age-keygen, zstd and ssh-keygen; written from FORMAT.md alone. KEY is the 'ssh-ed25519 AAAA...'
that `init` printed; without it the hint in repository.json is believed: that keeps out accidents, but no forger.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unicodedata

PIECE = 1 << 20  # a digest is made over pieces of this many bytes

def stop(message):
    sys.exit(f"recover.py: {message}")


def run(what, *command, stdin=None):
    """Standard output of a command; if it fails, say on what it failed."""
    done = subprocess.run([str(word) for word in command], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        stop(f"{what}: {command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def parse(text, what):
    document = json.loads(text)
    if document.get("format") != 1:
        stop(f"{what} has format {document.get('format')}; this program knows 1")
    return document


# Record
def signed_line(path, signer, scratch):
    """The first line of a record if the signer signed it, else None."""
    line, signature = path.read_bytes().split(b"\n", 1)
    line += b"\n"
    (scratch / "line.sig").write_bytes(signature)
    (scratch / "signers").write_text(f'host namespaces="sealift" {signer}\n')
    verify = "ssh-keygen -Y verify -I host -n sealift -f".split() + [scratch / "signers", "-s", scratch / "line.sig"]
    done = subprocess.run(verify, input=line, capture_output=True, check=False)
    return line if done.returncode == 0 else None


def find_record(repository, description, sequence, signer, scratch):
    """The wanted record, or the highest that verifies."""
    for path in sorted((repository / "snapshots").glob("[0-9]" * 10 + ".record"), reverse=True):
        if sequence is not None and int(path.stem) != sequence:
            continue
        line = signed_line(path, signer, scratch)
        if line is None:
            print(f"passing over snapshots/{path.name}: the signature is not the signer's", file=sys.stderr)
            continue
        record = parse(line, path.name)
        if record["repository"] != description["repository"] or record["sequence"] != int(path.stem):
            stop(f"snapshots/{path.name} belongs to another place")
        return record
    stop("no such record verifies")


# Keys
def open_epoch(repository, entry, identity, scratch):
    """A file with the data identity of an epoch, opened with the operator's identity."""
    key = scratch / f"{entry['epoch']}.key"
    for wrapped in sorted((repository / "keys" / str(entry["epoch"])).glob("*.age")):
        opened = subprocess.run(["age", "-d", "-i", identity, wrapped], stdout=subprocess.PIPE, check=False)
        secrets = [line for line in opened.stdout.decode().splitlines() if line and not line.startswith("#")]
        key.write_text("\n".join(secrets))
        if len(secrets) == 1 and run(wrapped, "age-keygen", "-y", key).decode().strip() == entry["recipient"]:
            return key
    stop(f"no file in keys/{entry['epoch']} opens with {identity}")


# Pack and manifest: both are named by their stored bytes, sealed with age, compressed with zstd
def open_sealed(path, key):
    stored = path.read_bytes()
    if hashlib.sha256(stored).hexdigest() != path.stem:
        stop(f"{path}: the bytes are not those of its name")
    return run(path, "zstd", "-d", "-c", stdin=run(path, "age", "-d", "-i", key, stdin=stored))


def read_manifest(content):
    """The pack table, and each source with its content, or its runs and links, beside it."""
    line, _, tail = content.partition(b"\n")
    manifest = parse(line, "the manifest")
    sources, at = [], 0
    for source in manifest["sources"]:
        name = source["name"]
        control = any(unicodedata.category(letter) == "Cc" for letter in name)
        if name in ("", ".", "..") or "/" in name or control or len(name.encode()) > 255:
            stop(f"unsafe source name {name!r}")
        if source["kind"] == "inline":
            source["content"], at = tail[at:at + source["bytes"]], at + source["bytes"]
        elif source["kind"] in ("blocks", "database"):
            runs, links = source["runs"], source["links"]
            end = at + runs * 12
            source["runs"] = list(struct.iter_unpack("<3I", tail[at:end]))
            source["links"] = dict(struct.iter_unpack("<2I", tail[end:end + links * 8]))
            at = end + links * 8
        else:
            stop(f"{name} is of a kind that this program does not know: {source['kind']}")
        sources.append(source)
    if at != len(tail):
        stop("the manifest is longer or shorter than its sources")
    return manifest["packs"], sources


# Putting the link back
def page_of(block, number, links):
    if number != 1 and block[0] == 0:
        return struct.pack(">I", links.get(number, number + 1)) + block[4:]
    return block


def write_files(sources, packs, open_pack, target):
    """Write all files under temporary names, one pack after the other, so that each is opened once."""
    wanted = collections.defaultdict(list)  # pack -> [(source, file, first block there, first block here, blocks)]
    files = {}
    for source in sources:
        descriptor = os.open(target / (source["name"] + ".part"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        file = files[source["name"]] = open(descriptor, "w+b")
        if source["kind"] == "inline":
            file.write(source["content"])
            continue
        here = 0
        for pack, there, count in source["runs"]:
            wanted[pack].append((source, file, there, here, count))
            here += count
        if here != -(-source["bytes"] // source["block_size"]):
            stop(f"{source['name']}: its runs are not its size")
    for pack, pieces in sorted(wanted.items(), key=lambda item: item[0]):
        blocks = open_pack(packs[pack])
        for source, file, there, here, count in pieces:
            size = source["block_size"]
            file.seek(here * size)
            for i in range(count):
                block = blocks[(there + i) * size:(there + i + 1) * size]
                if len(block) != size:
                    stop(f"packs/{packs[pack]}.age is too short")
                file.write(page_of(block, here + i + 1, source["links"]) if source["kind"] == "database" else block)
    return files


def digest_of(file):
    file.seek(0)
    whole = hashlib.sha256()
    while piece := file.read(PIECE):
        whole.update(hashlib.sha256(piece).digest())
    return whole.hexdigest()


def finish(source, file, target):
    """Trust a file only when its digest agrees; then give it its name, mode, time and, for root, owner."""
    file.truncate(source["bytes"])
    if digest_of(file) != source["digest"]:
        stop(f"{source['name']}: the digest does not agree")
    if os.geteuid() == 0:
        os.fchown(file.fileno(), source["uid"], source["gid"])
    os.fchmod(file.fileno(), source["mode"])
    file.close()
    part = target / (source["name"] + ".part")
    os.utime(part, ns=(source["mtime_ns"], source["mtime_ns"]))
    os.link(part, target / source["name"])  # which, unlike a rename, replaces nothing
    part.unlink()


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, kind in (("repository", pathlib.Path), ("identity", str), ("target", pathlib.Path)):
        ask.add_argument(name, type=kind)
    ask.add_argument("sequence", type=int, nargs="?", help="default: the latest")
    ask.add_argument("--signer", help="'ssh-ed25519 AAAA...'")
    wish = ask.parse_args()
    description = parse((wish.repository / "repository.json").read_text(), "repository.json")
    with tempfile.TemporaryDirectory() as folder:  # mode 0700: the keys lie in it for a moment
        scratch = pathlib.Path(folder)
        record = find_record(wish.repository, description, wish.sequence, wish.signer or description["signer"], scratch)
        keys = {e["epoch"]: open_epoch(wish.repository, e, wish.identity, scratch) for e in record["epochs"]}
        key_of = {name: keys[e["epoch"]] for e in record["epochs"] for name, _ in e["packs"]}
        name, epoch = record["manifest"]["name"], record["manifest"]["epoch"]
        packs, sources = read_manifest(open_sealed(wish.repository / "manifests" / f"{name}.age", keys[epoch]))
        wish.target.mkdir(parents=True, exist_ok=True)
        open_pack = lambda pack: open_sealed(wish.repository / "packs" / f"{pack}.age", key_of[pack])
        files = write_files(sources, packs, open_pack, wish.target)
        for source in sources:
            finish(source, files[source["name"]], wish.target)
    print(f"snapshot {record['sequence']} of {record['host']}, {record['time']}: {len(sources)} files")


main()
