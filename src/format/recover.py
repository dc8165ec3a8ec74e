"""Gets everything back out of a sealift repository, without sealift.

    recover.py list    REPOSITORY
    recover.py check   REPOSITORY -i IDENTITY [SNAPSHOT]             every digest, without writing a file
    recover.py restore REPOSITORY -i IDENTITY --to DIR [SNAPSHOT]

REPOSITORY is a folder: for a bucket, the copy that any S3 client makes of it. SNAPSHOT is a number; the latest without.
Needs Python 3.9, age, zstd, and ssh-keygen for the signatures. Opened keys lie in TMPDIR, mode 0700, until it ends.
"""
import argparse, base64, collections, functools, hashlib, io, json, os, pathlib, re, shutil, signal, struct, subprocess
import sys, tempfile, unicodedata
FAILED, USAGE, PROBLEM, NO_REPOSITORY, NO_IDENTITY, VERIFICATION, REFUSED, INTERRUPTED = 1, 2, 3, 10, 12, 13, 15, 130
ORDER = (1 << 252) + 27742317777372353535851937790883648493  # of the group in which Ed25519 signs (RFC 8032)
SIGNER = r"ssh-ed25519 ([A-Za-z0-9+/]{68})"
NAMES = r"(?m)^# *repository: *(\S+)[ \t\r]*$(?:\n# *signer: *(ssh-ed25519 \S+))?"  # in an identity file's comments
MAX_KEY, MAX_TEXT, MAX_PACK, MAX_SEALED = 128 << 10, 32 << 20, 16 << 20, 256 << 20  # in bytes
PIECE, WINDOW = 1 << 20, 128 << 20  # bytes: what one part of a digest covers; what is put together in memory at a time
problems = []  # What makes the exit code 3.

class Stop(Exception): pass  # Ends the program: the exit code, and why.
def shown(text):  # Text from the repository cannot control the terminal.
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))
def warn(text, problem=True):
    print(f"recover.py: {'problem' if problem else 'warning'}: {shown(text)}", file=sys.stderr)
    problems.extend([text] if problem else [])

def read(path, limit):
    stored = path.open("rb").read(limit + 1) if path.is_file() else None
    if stored is None or len(stored) > limit:
        raise Stop(VERIFICATION, f"{path} is {'missing' if stored is None else 'larger than any that sealift makes'}")
    return stored

def parse(text, what):
    document = json.loads(text)
    if repr(document["format"]) != "1":
        raise Stop(VERIFICATION, f"{what} has format {document['format']}, and this program reads format 1")
    return document

def open_sealed(path, key, limit):
    """The plain bytes of a pack or a manifest, after the stored bytes were compared with the hash in their name."""
    if hashlib.sha256(read(path, MAX_SEALED)).hexdigest() != path.stem:
        raise Stop(VERIFICATION, f"{path}: its bytes do not have the hash that is its name")
    with subprocess.Popen(["sh", "-c", 'age -d -i "$0" "$1" | zstd -dcq', key, path], stdout=subprocess.PIPE) as pipe:
        plain = pipe.stdout.read(limit + 1)
        pipe.stdout.close()  # Ends a bomb.
    if pipe.returncode or len(plain) > limit:
        raise Stop(VERIFICATION, f"{path} does not open, or becomes larger than any that sealift makes")
    return plain

def fingerprint(signer):  # As ssh-keygen -l shows it. Fails where there is no signer.
    digest = hashlib.sha256(base64.b64decode(re.fullmatch(SIGNER, signer)[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

def read_signer(line, armour, scratch):
    """Who signed the line, where what lies under it are the exact bytes that sealift writes for the two."""
    kind, old = b"ssh-ed25519", base64.b64decode(b"".join(armour.split(b"\n")[1:-2]))
    join = lambda *parts: b"".join(struct.pack(">I", len(part)) + part for part in parts)
    key, proof = join(kind, old[33:65]), join(kind, old[113:177])
    text = base64.b64encode(b"SSHSIG\0\0\0\1" + join(key, b"sealift", b"", b"sha512", proof))
    exact = b"-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----\n" % re.sub(b"(.{70})", b"\\1\n", text)
    good = armour == exact and len(old) == 177 and int.from_bytes(old[145:], "little") < ORDER
    signer = "ssh-ed25519 " + base64.b64encode(key).decode()
    if good and shutil.which("ssh-keygen"):
        (scratch / "signature").write_bytes(armour)
        (scratch / "signers").write_text(f'host namespaces="sealift" {signer}\n')
        verify = "ssh-keygen -Y verify -I host -n sealift -f signers -s signature".split()
        good = not subprocess.run(verify, cwd=scratch, input=line + b"\n", capture_output=True).returncode
    if not good: raise ValueError("its signature does not hold")
    return signer

def read_record(stored, number, repository, scratch):
    """A record with a valid signature. Whether its signer counts is judged later."""
    line, _, armour = stored.partition(b"\n")
    signer, newer = read_signer(line, armour, scratch), json.loads(line)["format"]
    if type(newer) is int and newer > 1:  # Of a newer format only the envelope is known: one line, its signature.
        return {"newer": newer, "signer": signer}
    record = {"takeovers": [], "ignored": [], **parse(line, "it"), "signer": signer}
    if record["repository"] != repository or record["sequence"] != number:
        raise ValueError("it belongs to another place")
    steps, epochs = [*record["takeovers"], {"from": signer, "last": number}], [record["manifest"], *record["epochs"]]
    if any(fingerprint(one["from"]) and one["to"] != after["from"] or not 0 <= one["last"] < after["last"]
           for one, after in zip(steps, steps[1:])) or any(entry["epoch"] < 1 for entry in epochs):
        raise ValueError("its takeovers do not lead to its signer, or its epochs do not count from 1")
    return record

def read_records(folder, repository, scratch):
    """Every record in order; where one cannot be read, with the fault."""
    if not shutil.which("ssh-keygen"):
        warn("SIGNATURES ARE NOT CHECKED, ssh-keygen is missing: anyone who can write there may have made what you see")
    for path in sorted(folder.glob("snapshots/" + "[0-9]" * 10 + ".record")):
        number, stored = int(path.stem), b""
        try:
            stored = read(path, MAX_TEXT)
            record = read_record(stored, number, repository, scratch)
        except Exception as why:
            record = {"fault": f"it cannot be verified: {why.args[-1] if why.args else why}"}
        yield {**record, "sequence": number, "digest": hashlib.sha256(stored).hexdigest()}

def find_pin(wish, description, named):
    """The trusted signer: what is given, or what identity files say, or what the repository says of itself."""
    if wish.signer:
        text = pathlib.Path(wish.signer).read_text() if os.path.isfile(wish.signer) else wish.signer
        if not (key := re.match(SIGNER, text)):
            raise Stop(USAGE, f"--signer: {wish.signer} is not 'ssh-ed25519 AAAA...', nor a file that begins so")
        return key[0]
    if named.get(description["repository"]): return named[description["repository"]]
    warn("nothing here says who signs this repository. It names the signer with the fingerprint "
         f"{fingerprint(description['signer'])}. Compare it with your recovery kit, or with what init printed", False)
    return description["signer"]

def choose(wish, records, pin):
    """The wanted records that count, after everything is said that a person has to know or to decide."""
    accepted = [pin]
    while accepted:  # At first what is trusted anyway, then its successor, if a person accepts that.
        pin, newest = accepted[-1], [one for one in records if one.get("signer") == accepted[-1] and "newer" not in one]
        takeovers, ignored = [newest[-1][member] if newest else [] for member in ("takeovers", "ignored")]
        before = lambda number: next((step["from"] for step in takeovers if number <= step["last"]), pin)
        good = [one for one in records if one.get("signer") in (pin, before(one["sequence"]))]
        left = [one for one in records if one not in good and [one["sequence"], one["digest"]] not in ignored]
        claims = [one for one in left if any(step["from"] == pin for step in one.get("takeovers", []))]
        accepted = [one["signer"] for one in claims if fingerprint(one["signer"]) == wish.accept_signer]
    if wish.accept_signer not in (None, fingerprint(pin)):
        raise Stop(VERIFICATION, f"{wish.accept_signer} signed nothing that says it took over from {fingerprint(pin)}")
    for one in left:
        why = one.get("fault") or f"its signer {fingerprint(one['signer'])} is not trusted"
        warn(f"snapshot {one['sequence']} is passed over: {why}", wish.snapshot == "latest")
    wanted = [one for one in good if wish.snapshot in ("latest", str(one["sequence"]))]
    for one in wanted if wish.verb == "list" else []:
        words = [one["time"], one["host"], *one["health"], *one["tags"]] if "time" in one else ["of a newer format"]
        print(f"{one['sequence']:10d}", shown("  ".join(words)))
    for one in claims[-1:] if wish.snapshot == "latest" else []:
        raise Stop(VERIFICATION, f"snapshot {one['sequence']} of {one['host']}, {one['time']}: its signer says that it "
                   f"took over. It is {fingerprint(one['signer'])}; trusted is {fingerprint(pin)}. Ask who did that. "
                   "To trust it: --accept-signer FINGERPRINT. An older snapshot goes by its number")
    for one in [one for one in wanted[-1:] if "newer" in one]:
        raise Stop(VERIFICATION, f"snapshot {one['sequence']} has format {one['newer']}, and this program reads format "
                   "1: take the script of a newer release, or name an older snapshot by its number")
    return wanted

def load_identities(paths, scratch):
    """The identity files as age takes them, any passphrase asked for once; each with what it says of signers."""
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
        identities[path] = re.findall(NAMES, text.decode(errors="replace"))
    return identities

def open_epoch(place, recipient, identities, scratch):
    """A file with the data key of an epoch: the one that the record names, whatever else lies there."""
    key, failure = scratch / f"{place.name}.key", Stop(VERIFICATION, f"{place} holds no wrapped key")
    versions = {int(one.stem): one for one in place.glob("*.age") if re.fullmatch("[1-9][0-9]*", one.stem)}
    for wrapped in [one for _, one in sorted(versions.items()) if one.is_file() and one.stat().st_size <= MAX_KEY]:
        args = ["age", "-d", *(word for file in identities for word in ("-i", file)), wrapped]
        with key.open("wb") as out, subprocess.Popen(args, stdout=out, stderr=subprocess.PIPE, errors="replace") as age:
            said = [line for line in age.stderr if sys.stderr.write(shown(line[:-1]) + "\n")]  # Some keys want a touch.
        secrets = [line for line in read(key, MAX_KEY).splitlines() if line and not line.startswith(b"#")]
        if age.returncode == 0 and len(secrets) == 1 and re.fullmatch(rb"AGE-SECRET-KEY-1[0-9A-Z]+", secrets[0]):
            key.write_bytes(secrets[0])
            if subprocess.run(["age-keygen", "-y", key], stdout=subprocess.PIPE).stdout.decode().strip() == recipient:
                return key
        code = NO_IDENTITY if "no identity matched" in "".join(said) else failure.args[0]
        failure = Stop(code, f"{wrapped} does not give the data key that the signed record names")
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
    if tail.read(1): raise ValueError("the manifest is longer than its sources")
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
    if any(target.iterdir()): raise Stop(REFUSED, f"{target} is not empty: name a new or an empty folder")
    with tempfile.TemporaryDirectory(prefix=".recover-", dir=target) as staging:
        for source in sources:
            with open(f"{staging}/{source['name']}", "xb") as file:
                verify(source, open_pack, file.write)
                file.flush()
                try:
                    os.fchown(file.fileno(), source["uid"], source["gid"])
                except OSError:
                    source["mode"] &= 0o777  # No file runs with the rights of another user.
                    warn(f"{source['name']} could not be given back to its owner: this user may not", problem=False)
                os.fchmod(file.fileno(), source["mode"])
                os.utime(file.fileno(), ns=(source["mtime_ns"], source["mtime_ns"]))
                os.fsync(file.fileno())
        for source in sources:
            os.rename(f"{staging}/{source['name']}", target / source["name"])

def run(wish, folder, scratch):
    for tool in [tool for tool in ("age", "age-keygen", "zstd") if wish.verb != "list" and not shutil.which(tool)]:
        raise Stop(FAILED, f"{tool} is not installed")
    if not (folder / "repository.json").exists(): raise Stop(NO_REPOSITORY, f"there is no repository at {folder}")
    description = parse(read(folder / "repository.json", MAX_TEXT), "repository.json")
    repository, identities = description["repository"], load_identities(wish.identity, scratch)
    named, records = dict(sum(identities.values(), [])), list(read_records(folder, repository, scratch))
    found = choose(wish, records, find_pin(wish, description, named))
    if wish.verb == "list": return
    if not found:
        there = [one for one in records if wish.snapshot in ("latest", str(one["sequence"]))]
        raise Stop(VERIFICATION if there else FAILED, f"snapshot {wish.snapshot} is not here, or does not count")
    record = found[-1]
    keys = {entry["epoch"]: open_epoch(folder / f"keys/{entry['epoch']}", entry["recipient"], identities, scratch)
            for entry in record["epochs"]}
    if named and repository not in named and not wish.signer:
        raise Stop(VERIFICATION, "the identity was made for another repository: name this one's signer with --signer")
    key_of = {name: keys[entry["epoch"]] for entry in record["epochs"] for name, _ in entry["packs"]}
    manifest = folder / "manifests" / f"{record['manifest']['name']}.age"
    packs, sources = read_manifest(open_sealed(manifest, keys[record["manifest"]["epoch"]], MAX_SEALED))
    packs = [(folder / "packs" / f"{name}.age", key_of[name], MAX_PACK) for name in packs]
    open_pack = functools.lru_cache(1)(lambda index: open_sealed(*packs[index]))
    if set(wish.only) - {source["name"] for source in sources}:
        raise Stop(USAGE, f"snapshot {record['sequence']} has {', '.join(source['name'] for source in sources)}")
    sources = [source for source in sources if not wish.only or source["name"] in wish.only]
    if wish.verb == "restore": restore(sources, open_pack, wish.to)
    for source in sources if wish.verb == "check" else []:
        verify(source, open_pack, len)
    for word in {"damaged", "missing", "shrunk"} & set(record["health"]):
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
    ask.add_argument("--accept-signer", metavar="FINGERPRINT", help="trust this one, which took over: SHA256:...")
    ask.add_argument("--only", metavar="NAME", action="append", default=[], help="this source; repeatable")
    wish = ask.parse_intermixed_args()
    if wish.verb != "list" and not wish.identity or (wish.verb == "restore") != (wish.to is not None):
        ask.error("check and restore want -i IDENTITY, and restore, it alone, wants --to DIR")
    os.umask(0o077)
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C: what was begun is removed.
    try:
        with tempfile.TemporaryDirectory() as scratch:
            run(wish, wish.repository, pathlib.Path(scratch))
        return PROBLEM if problems else 0
    except (Exception, KeyboardInterrupt) as why:  # Any other than Stop and OSError: what is stored is malformed.
        code = FAILED if isinstance(why, OSError) else VERIFICATION if isinstance(why, Exception) else INTERRUPTED
        code, text = why.args if isinstance(why, Stop) else (code, f"{type(why).__name__} {why}")
    print(f"recover.py: error: {shown(text)}", file=sys.stderr)
    return code

sys.exit(main())
