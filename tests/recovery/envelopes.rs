//! Test vectors of the envelope: a record as it is written, and others named for what is wrong with them. What sealift
//! refuses, the script refuses, and `ssh-keygen` accepts some of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sealift::crypto::{PublicSigner, Signer, sha256};
use sealift::format::{FormatError, ReadRecord, RecordError, RepositoryId, SignedRecord};
use serde_json::json;
use ssh_key::{HashAlg, LineEnding, PrivateKey};

use crate::live::have;
use crate::script::{self, TOOLS};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/envelopes")
}

/// The vectors by their names.
fn vectors() -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let records = paths.filter(|path| path.extension().is_some_and(|extension| extension == "record"));
    records.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect()
}

/// What a vector is to a reader that trusts its signer.
fn verdict(name: &str) -> &'static str {
    match name {
        "good" => "counts",
        "newer-format" => "newer",
        _ => "refused",
    }
}

#[test]
fn sealift_reads_each_vector_as_its_name_says() {
    let descriptor = sealift::format::Descriptor::parse(&fs::read(folder().join("repository.json")).unwrap()).unwrap();
    let vectors = vectors();
    assert!(vectors.len() >= 20, "{:?}", vectors.keys());
    for (name, bytes) in vectors {
        let read = match SignedRecord::read_any(bytes.into(), 1, &descriptor.repository) {
            Ok(ReadRecord::Record(record)) if *record.signed.signer() == descriptor.signer => "counts",
            Ok(ReadRecord::Newer { signed, format: 2 }) if *signed.signer() == descriptor.signer => "newer",
            Err(RecordError::Signature(_) | RecordError::Format(FormatError::Invalid(_))) => "refused",
            _ => "something else",
        };
        assert_eq!(read, verdict(&name), "{name}");
    }
}

#[test]
fn the_script_reads_each_vector_as_its_name_says() {
    if !have(&TOOLS) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("snapshots")).unwrap();
    let descriptor = fs::read(folder().join("repository.json")).unwrap();
    fs::write(scratch.path().join("repository.json"), &descriptor).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/recover.py"), scratch.path().join("recover.py"))
        .unwrap();
    let signer = sealift::format::Descriptor::parse(&descriptor).unwrap().signer.to_string();
    for (name, bytes) in vectors() {
        fs::write(scratch.path().join("snapshots/0000000001.record"), bytes).unwrap();
        let output = script::run("list", scratch.path(), &["--signer", &signer]);
        let read = match output.code {
            0 => "counts",
            3 => "refused",
            13 if output.all().contains("format 2") => "newer",
            _ => "something else",
        };
        assert_eq!(read, verdict(&name), "{name}: {output:?}");
    }
}

/// The order of the group added to S (RFC 8032, section 5.1): the sum fits the same equation.
fn add_group_order(blob: &mut [u8]) {
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0;
    for (byte, order) in blob[145..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}

/// A signature in lines of `width` characters.
fn armoured(blob: &[u8], width: usize) -> String {
    let text = STANDARD.encode(blob);
    let lines: Vec<&str> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("{BEGIN}{}\n{END}", lines.join("\n"))
}

/// Every vector. Those with other strings in the signature are signed so, and hold but for that.
fn make(key: &PrivateKey, line: &str) -> BTreeMap<&'static str, String> {
    let sign = |line: &str, namespace, hash| {
        let message = format!("{line}\n");
        format!("{message}{}", key.sign(namespace, hash, message.as_bytes()).unwrap().to_pem(LineEnding::LF).unwrap())
    };
    let good = sign(line, "sealift", HashAlg::Sha512);
    let armour = good.strip_prefix(line).unwrap().strip_prefix('\n').unwrap();
    let body: String = armour.lines().filter(|line| !line.starts_with('-')).collect();
    let blob = STANDARD.decode(&body).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut blob = blob.clone();
        change(&mut blob);
        format!("{line}\n{}", armoured(&blob, 70))
    };
    let member = |from: &str, to: &str| sign(&line.replacen(from, to, 1), "sealift", HashAlg::Sha512);
    BTreeMap::from([
        ("good", good.clone()),
        ("newer-format", sign(r#"{"format":2,"everything":"else"}"#, "sealift", HashAlg::Sha512)),
        ("format-0", member("\"format\":1", "\"format\":0")),
        ("format-negative", member("\"format\":1", "\"format\":-1")),
        ("format-text", member("\"format\":1", "\"format\":\"2\"")),
        ("format-missing", member("\"format\":1,", "")),
        ("other-number", member("\"sequence\":1", "\"sequence\":2")),
        ("epoch-0", member("\"epoch\":1", "\"epoch\":0")),
        ("no-json", sign("snapshot 1", "sealift", HashAlg::Sha512)),
        ("line-changed", good.replacen("\"host\":\"\"", "\"host\":\"x\"", 1)),
        ("line-only", format!("{line}\n")),
        ("empty", String::new()),
        ("line-feed-appended", format!("{good}\n")),
        ("line-feed-missing", good.trim_end().to_owned()),
        ("line-feed-before-armour", format!("{line}\n\n{armour}")),
        ("text-appended", format!("{good}# more\n")),
        ("second-signature-appended", format!("{good}{armour}")),
        ("crlf", good.replace('\n', "\r\n")),
        ("crlf-in-armour", format!("{line}\n{}", armour.replace('\n', "\r\n"))),
        ("one-long-line", format!("{line}\n{}", armoured(&blob, 1000))),
        ("lines-of-64", format!("{line}\n{}", armoured(&blob, 64))),
        ("lines-of-76", format!("{line}\n{}", armoured(&blob, 76))),
        ("other-label", good.replace("SSH SIGNATURE", "SSH SIGNATURES")),
        ("s-above-group-order", changed(&|blob| add_group_order(blob))),
        ("bytes-after-signature", changed(&|blob| blob.push(0))),
        ("version-2", changed(&|blob| blob[9] = 2)),
        ("namespace-changed", changed(&|blob| blob[69..76].copy_from_slice(b"sealiff"))),
        ("other-namespace", sign(line, "file", HashAlg::Sha512)),
        ("other-hash", sign(line, "sealift", HashAlg::Sha256)),
    ])
}

/// Makes the vectors: `cargo test --test recovery make_the_envelopes -- --ignored`. After a release only to add some.
#[test]
#[ignore = "writes into the source tree"]
fn make_the_envelopes() {
    let signer = Signer::generate().unwrap();
    let key = PrivateKey::from_openssh(signer.to_openssh().unwrap().as_bytes()).unwrap();
    let (id, public): (RepositoryId, PublicSigner) = (RepositoryId::generate(), signer.public());
    let line = json!({
        "format": 1, "repository": id, "sequence": 1, "previous": null, "earlier": [], "time": "2026-12-01T00:00:00Z",
        "host": "", "tags": [], "health": ["ok"], "writer_hold_ms": 0, "epochs": [],
        "manifest": { "name": sha256(b""), "bytes": 0, "epoch": 1 },
    });
    let _ = fs::remove_dir_all(folder());
    fs::create_dir_all(folder()).unwrap();
    let descriptor = json!({ "format": 1, "repository": id, "created": "2026-12-01T00:00:00Z", "signer": public });
    fs::write(folder().join("repository.json"), format!("{descriptor}\n")).unwrap();
    for (name, bytes) in make(&key, &line.to_string()) {
        fs::write(folder().join(format!("{name}.record")), bytes).unwrap();
    }
}
