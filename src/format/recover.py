"""Gets everything back out of a sealift repository, without sealift.

    recover.py list    REPOSITORY
    recover.py check   REPOSITORY -i IDENTITY [SNAPSHOT]             every digest, without writing a file
    recover.py restore REPOSITORY -i IDENTITY --to DIR [SNAPSHOT]

REPOSITORY is a folder: for a bucket, the copy that any S3 client makes of it. SNAPSHOT is a number; the latest without.
Needs Python 3.9, age, zstd, and ssh-keygen for the signatures. Opened keys lie in TMPDIR, mode 0700, until it ends.
"""

import argparse, base64, collections, functools, hashlib, hmac, io, json, os, re, shutil, signal, struct, subprocess
import pathlib, sys, tempfile, unicodedata

FAILED, USAGE, DOUBT, NO_REPOSITORY, NO_IDENTITY, VERIFICATION, REFUSED, INTERRUPTED = 1, 2, 3, 10, 12, 13, 15, 130
MAX_KEY, MAX_TEXT, MAX_PACK, MAX_SEALED = 128 << 10, 32 << 20, 16 << 20, 256 << 20  # in bytes
PIECE, WINDOW = 1 << 20, 128 << 20  # bytes: what one part of a digest covers; what is put together in memory at a time
doubts = []  # What makes the exit code 3.

class Stop(Exception):
    """Ends the program: the exit code, and why."""

def shown(text):  # Whoever wrote the text, it cannot play with the terminal.
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))

def warn(text, doubt=True):
    print(f"recover.py: warning: {shown(text)}", file=sys.stderr)
    doubts.extend([text] if doubt else [])

def read(path, limit):
    stored = path.open("rb").read(limit + 1) if path.is_file() else None
    if stored is None or len(stored) > limit:
        raise Stop(VERIFICATION, f"{path} is {'missing' if stored is None else 'larger than any that sealift makes'}")
    return stored

def parse(text, what):
    document = json.loads(text)
    if document["format"] != 1:
        raise Stop(VERIFICATION, f"{what} has format {document['format']}, and this program reads format 1")
    return document

def open_sealed(path, key, limit):
    """What is sealed in a pack or a manifest, once the stored bytes have the hash that is their name."""
    if hashlib.sha256(read(path, MAX_SEALED)).hexdigest() != path.stem:
        raise Stop(VERIFICATION, f"{path}: its bytes do not have the hash that is its name")
    with subprocess.Popen(["sh", "-c", 'age -d -i "$0" "$1" | zstd -dcq', key, path], stdout=subprocess.PIPE) as pipe:
        plain = pipe.stdout.read(limit + 1)
        pipe.stdout.close()  # Ends a bomb, whoever made it.
    if pipe.returncode or len(plain) > limit:
        raise Stop(VERIFICATION, f"{path} does not open, or becomes larger than any that sealift makes")
    return plain

def read_record(path, repository, scratch):
    """A record with a valid signature, and its signer. Whether that signer counts is judged later."""
    line, _, armour = read(path, MAX_TEXT).partition(b"\n")
    blob = base64.b64decode(armour.decode("ascii").split("-----")[2])  # It carries the signer's public key.
    key = blob[14:14 + struct.unpack_from(">I", blob, 10)[0]]
    if not blob.startswith(b"SSHSIG\0\0\0\1") or not key.startswith(b"\0\0\0\x0bssh-ed25519"):
        raise ValueError("it carries no Ed25519 signature")
    signer = "ssh-ed25519 " + base64.b64encode(key).decode()
    if shutil.which("ssh-keygen"):
        (scratch / "signature").write_bytes(armour)
        (scratch / "signers").write_text(f'host namespaces="sealift" {signer}\n')
        verify = "ssh-keygen -Y verify -I host -n sealift -f signers -s signature".split()
        if subprocess.run(verify, cwd=scratch, input=line + b"\n", capture_output=True).returncode:
            raise ValueError("its signature does not hold")
    record = {"take_overs": [], **parse(line, path.name), "signer": signer}
    if record["repository"] != repository or f"{record['sequence']:010d}" != path.stem:
        raise ValueError("it belongs to another place")
    changes = [*record["take_overs"], {"from": signer, "last": record["sequence"]}]
    if any(one["to"] != after["from"] or one["last"] >= after["last"] for one, after in zip(changes, changes[1:])):
        raise ValueError("its take-overs do not lead to its signer")
    return record

def read_records(folder, repository, scratch):
    """Every record by its number; None for one that cannot be read."""
    if not shutil.which("ssh-keygen"):
        warn("SIGNATURES ARE NOT CHECKED, ssh-keygen is missing: whoever can write there may have made what you see")
    records = {}
    for path in sorted(folder.glob("snapshots/" + "[0-9]" * 10 + ".record")):
        number, records[int(path.stem)] = int(path.stem), None
        try:
            records[number] = read_record(path, repository, scratch)
        except Exception as why:
            warn(f"snapshot {number} cannot be verified and is passed over: {why.args[-1] if why.args else why}")
    return records

def find_pin(given, description, comments):
    """Whose signature counts: what is given, or what an identity file says, or the repository's own word."""
    if given:
        text = pathlib.Path(given).read_text() if os.path.isfile(given) else given
        if not (key := re.match(r"ssh-ed25519 [A-Za-z0-9+/]+", text)):
            raise Stop(USAGE, f"--signer: {given} is not 'ssh-ed25519 AAAA...', nor a file that begins so")
        return key[0]
    for comment in comments:
        if comment.get("repository") == description["repository"] and "signer" in comment:
            return comment["signer"]
    warn("nothing here says who signs this repository. Compare the signer that it names itself with your recovery kit, "
         f"or with what init printed, then give it with --signer '{description['signer']}'", doubt=False)
    return description["signer"]

def judge(records, pin):
    """The signer's records and those of earlier hosts that his oldest vouches for; and take-overs that others claim."""
    known, claims = [record for record in records.values() if record], []
    vouched = next((record["take_overs"] for record in known if record["signer"] == pin), [])
    expected = lambda record: next((one["from"] for one in vouched if record["sequence"] <= one["last"]), pin)
    good = [record for record in known if record["signer"] in (pin, expected(record))]
    for record in (record for record in known if record["signer"] not in (pin, expected(record))):
        warn(f"snapshot {record['sequence']} is passed over: {record['signer']} signed it, not {expected(record)}")
        claims += [change for change in record["take_overs"] if change["from"] == pin]
    if other := [one["sequence"] for one in good if one["signer"] == pin and one["take_overs"] != vouched]:
        warn(f"snapshots {other} tell of other take-overs than their signer's oldest: somebody else has the host's key")
    return good, claims

def judge_take_over(change, repository, good, open_key):
    """Whether an operator wanted it, by the old signer's newest data identity: older ones more people know."""
    newest = [record for record in good if record["sequence"] <= change["last"]][-1:]
    entries = [entry for record in newest for entry in record["epochs"]
               if change["epoch"] == entry["epoch"] == record["manifest"]["epoch"]]
    if not entries or not open_key:
        return "whether an operator wanted it cannot be told without an identity and a snapshot of the old host"
    lines = ["sealift take-over", repository, change["from"], f"{change['last']:d}", change["to"], ""]
    key = hmac.digest(b"sealift take-over 1", open_key(entries[-1]).read_bytes(), "sha256")
    if hmac.digest(key, "\n".join(lines).encode(), "sha256").hex() == change["proof"]:
        return f"its proof holds: who has, or until he was removed had, an identity of epoch {change['epoch']} did it"
    return "its proof is FALSE: whoever made it has no operator's identity. Do not accept it"

def load_identities(paths, scratch):
    """The identity files as age takes them, any passphrase asked for once; with each one's comments `name: value`."""
    identities = {}
    for number, path in enumerate(paths):
        text = read(path, MAX_KEY) if path.is_file() else b""
        if text.startswith((b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE")):
            path = scratch / f"identity-{number}"
            if subprocess.run(["age", "-d", "-o", path, paths[number]]).returncode:
                raise Stop(NO_IDENTITY, f"{paths[number]} does not open")
            text = path.read_bytes()
        if not re.search(rb"^(AGE-|-----BEGIN .*PRIVATE KEY)", text, re.MULTILINE):
            raise Stop(USAGE, f"{paths[number]} holds no age identity and no SSH private key")
        identities[path] = dict(re.findall(r"^# *([a-z]+): *(.*?)\s*$", text.decode(errors="replace"), re.MULTILINE))
    return identities

def open_epoch(place, recipient, identities, scratch):
    """A file with the data identity of an epoch: the one that the record names, whatever else lies beside it."""
    key, failure = scratch / f"{place.name}.key", Stop(VERIFICATION, f"{place} holds no wrapped key")
    for wrapped in sorted(one for one in place.glob("[0-9]*.age") if one.is_file() and one.stat().st_size <= MAX_KEY):
        args = ["age", "-d", *(word for file in identities for word in ("-i", file)), wrapped]
        with key.open("wb") as out, subprocess.Popen(args, stdout=out, stderr=subprocess.PIPE, errors="replace") as age:
            said = [line for line in age.stderr if sys.stderr.write(shown(line[:-1]) + "\n")]  # Some keys want a touch.
        secrets = [line for line in read(key, MAX_KEY).splitlines() if line and not line.startswith(b"#")]
        if age.returncode == 0 and len(secrets) == 1 and re.fullmatch(rb"AGE-SECRET-KEY-1[0-9A-Z]+", secrets[0]):
            key.write_bytes(secrets[0])
            if subprocess.run(["age-keygen", "-y", key], stdout=subprocess.PIPE).stdout.decode().strip() == recipient:
                return key
        code = NO_IDENTITY if "no identity matched" in "".join(said) else failure.args[0]
        failure = Stop(code, f"{wrapped} does not give the data identity that the signed record names")
    raise failure

def read_manifest(plain):
    """The pack table and the sources, each with its runs and links, or with its bytes."""
    line, _, rest = plain.partition(b"\n")
    manifest, tail, names = parse(line, "the manifest"), io.BytesIO(rest), {"", ".", ".."}
    for source in manifest["sources"]:
        name, size = source["name"], source["block_size"]
        if name in names or "/" in name or len(name.encode()) > 255 or "Cc" in map(unicodedata.category, name):
            raise ValueError(f"{name!r} is not a safe name of its own")
        names |= {name}
        if source["kind"] == "inline":
            source["content"] = tail.read(source["bytes"])
        elif source["kind"] not in ("blocks", "database") or size not in (512 << shift for shift in range(8)):
            raise ValueError(f"{name} is of a kind that this program does not know")
        else:
            source["runs"] = list(struct.iter_unpack("<3I", tail.read(12 * source["runs"])))
            source["links"] = dict(struct.iter_unpack("<2I", tail.read(8 * source["links"])))
            if sum(count for _, _, count in source["runs"]) != -(-source["bytes"] // size):
                raise ValueError(f"the runs of {name} are too many or too few")
    if tail.read(1):
        raise ValueError("the manifest is longer than its sources")
    return manifest["packs"], manifest["sources"]

def contents(source, open_pack):
    """The bytes of a source that lies in packs, a window at a time. In each window a pack is opened once."""
    size, room, here, windows = source["block_size"], WINDOW // source["block_size"], 0, collections.defaultdict(list)
    for pack, there, count in source["runs"]:
        while count:
            part = min(count, room - here % room)
            windows[here // room].append((pack, there, here % room, part))
            there, here, count = there + part, here + part, count - part
    for number, pieces in windows.items():
        window = bytearray(min(WINDOW, (here - number * room) * size))
        for pack, there, start, count in sorted(pieces):
            window[start * size:(start + count) * size] = open_pack(pack)[there * size:(there + count) * size]
        for at in range(0, len(window), size) if source["kind"] == "database" else ():
            page = number * room + at // size + 1
            if window[at] == 0 and page != 1:  # It gets its link back.
                struct.pack_into(">I", window, at, source["links"].get(page, (page + 1) % (1 << 32)))
        yield window[:source["bytes"] - number * WINDOW]

def verify(source, open_pack, write):
    """Hands all bytes of a source on, and stops in the end if they do not have its digest."""
    whole = hashlib.sha256()
    for window in [source["content"]] if source["kind"] == "inline" else contents(source, open_pack):
        for at in range(0, len(window), PIECE):
            whole.update(hashlib.sha256(window[at:at + PIECE]).digest())
        write(window)
    if whole.hexdigest() != source["digest"]:
        raise Stop(VERIFICATION, f"{source['name']} does not have the digest that the manifest names")

def restore(sources, open_pack, target):
    """All files, with owner, mode and time; under their names only once every one of them is verified."""
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise Stop(REFUSED, f"{target} is not empty: name a new or an empty folder")
    with tempfile.TemporaryDirectory(prefix=".recover-", dir=target) as staging:
        for source in sources:
            with open(f"{staging}/{source['name']}", "xb") as file:
                verify(source, open_pack, file.write)
                file.flush()
                try:
                    os.fchown(file.fileno(), source["uid"], source["gid"])
                    mode = source["mode"]
                except OSError:
                    mode = source["mode"] & 0o777  # Nothing runs with the rights of somebody else.
                    warn(f"{source['name']} could not be given back to its owner: this user may not", doubt=False)
                os.fchmod(file.fileno(), mode)
                os.utime(file.fileno(), ns=(source["mtime_ns"], source["mtime_ns"]))
                os.fsync(file.fileno())
        for source in sources:
            os.rename(f"{staging}/{source['name']}", target / source["name"])

def run(wish, scratch):
    folder = wish.repository
    for tool in [tool for tool in ("age", "age-keygen", "zstd") if wish.verb != "list" and not shutil.which(tool)]:
        raise Stop(FAILED, f"{tool} is not installed")
    if not (folder / "repository.json").exists():
        raise Stop(NO_REPOSITORY, f"there is no repository at {folder}: no repository.json")
    description = parse(read(folder / "repository.json", MAX_TEXT), "repository.json")
    repository, identities = description["repository"], load_identities(wish.identity, scratch)
    records = read_records(folder, repository, scratch)
    good, claims = judge(records, find_pin(wish.signer, description, identities.values()))
    for record in good if wish.verb == "list" else []:
        words = [record["time"], record["host"], *record["health"], *record["tags"]]
        print(f"{record['sequence']:10d}", shown("  ".join(words)))
    open_key = lambda entry: open_epoch(folder / f"keys/{entry['epoch']:d}", entry["recipient"], identities, scratch)
    for change in claims if wish.snapshot == "latest" else []:
        warn(f"another host says that it took over after snapshot {change['last']}. An older one goes by its number")
        said = judge_take_over(change, repository, good, open_key if identities else None)
        raise Stop(VERIFICATION, f"{said}. To go on with the snapshots of that host: --signer '{change['to']}'")
    if wish.verb == "list":
        return
    found = [record for record in good if wish.snapshot in ("latest", str(record["sequence"]))]
    if not found:
        there = records if wish.snapshot == "latest" else wish.snapshot in map(str, records)
        raise Stop(VERIFICATION if there else FAILED, f"snapshot {wish.snapshot} is not here, or cannot be verified")
    record = found[-1]
    keys = {entry["epoch"]: open_key(entry) for entry in record["epochs"]}
    if not wish.signer and repository not in [comment.get("repository", repository) for comment in identities.values()]:
        raise Stop(VERIFICATION, "the identity was made for another repository: name this one's signer with --signer")
    key_of = {name: keys[entry["epoch"]] for entry in record["epochs"] for name, _ in entry["packs"]}
    manifest = folder / "manifests" / f"{record['manifest']['name']}.age"
    packs, sources = read_manifest(open_sealed(manifest, keys[record["manifest"]["epoch"]], MAX_SEALED))
    packs = [(folder / "packs" / f"{name}.age", key_of[name], MAX_PACK) for name in packs]
    open_pack = functools.lru_cache(1)(lambda index: open_sealed(*packs[index]))
    if set(wish.only) - {source["name"] for source in sources}:
        raise Stop(USAGE, f"snapshot {record['sequence']} has {', '.join(source['name'] for source in sources)}")
    sources = [source for source in sources if not wish.only or source["name"] in wish.only]
    if wish.verb == "restore":
        restore(sources, open_pack, wish.to)
    for source in sources if wish.verb == "check" else []:
        verify(source, open_pack, len)
    for word in {"damaged", "missing"} & set(record["health"]):
        warn(f"when snapshot {record['sequence']} was taken, a source was {word}")
    said = ", ".join(f"{source['name']} ({source['bytes']} bytes)" for source in sources)
    print(shown(f"snapshot {record['sequence']} of {record['host']}, {record['time']}: every digest agrees: {said}"))

def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("verb", choices=["list", "check", "restore"])
    ask.add_argument("repository", type=pathlib.Path)
    ask.add_argument("snapshot", nargs="?", default="latest")
    ask.add_argument("-i", "--identity", type=pathlib.Path, action="append", default=[], help="age identity or SSH key")
    ask.add_argument("--to", type=pathlib.Path, metavar="DIR", help="new or empty folder to restore into")
    ask.add_argument("--signer", metavar="KEY", help="'ssh-ed25519 AAAA...', or a file that holds it")
    ask.add_argument("--only", metavar="NAME", action="append", default=[], help="this source; repeatable")
    wish = ask.parse_intermixed_args()
    if wish.verb != "list" and not wish.identity or (wish.verb == "restore") != (wish.to is not None):
        ask.error("check and restore want -i IDENTITY, and restore, it alone, wants --to DIR")
    os.umask(0o077)
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C: what was begun is cleared away.
    try:
        with tempfile.TemporaryDirectory() as scratch:
            run(wish, pathlib.Path(scratch))
        return DOUBT if doubts else 0
    except (Exception, KeyboardInterrupt) as why:  # Any other than Stop and OSError: what is stored is malformed.
        code = FAILED if isinstance(why, OSError) else VERIFICATION if isinstance(why, Exception) else INTERRUPTED
        code, text = why.args if isinstance(why, Stop) else (code, f"{type(why).__name__} {why}")
    print(f"recover.py: error: {shown(text)}", file=sys.stderr)
    return code

sys.exit(main())
