//! The host cannot read its own backups, and no secret is ever shown.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use age::secrecy::ExposeSecret;
use sealift::crypto::{IdentityFile, Unprompted, open};

use crate::support::world::{World, tree};

const SECRET: &str = "AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQQQQQQ";

fn objects(world: &World, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let tree = tree(&world.path("repository").join(folder)).into_iter();
    tree.filter(|(path, _)| path.extension().is_some_and(|end| end == "age"))
        .map(|(path, (_, _, bytes))| (path, bytes))
        .collect()
}

fn ten_backups() -> World {
    let world = World::ready();
    for _ in 0..10 {
        world.add_rows(2);
        world.backup();
    }
    world
}

/// Everything that the host keeps: its state and its configuration. The operator took the identity away.
fn kept(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let mut kept: Vec<_> = tree(&world.state())
        .into_iter()
        .filter(|(path, _)| path.is_file())
        .map(|(path, (_, _, bytes))| (path, bytes))
        .collect();
    kept.push((world.config(), fs::read(world.config()).unwrap()));
    kept
}

#[test]
fn after_ten_backups_nothing_on_the_host_opens_any_object() {
    let world = ten_backups();
    let own = IdentityFile::parse(&fs::read(world.identity()).unwrap(), "operator", &Unprompted).unwrap();
    let keys = objects(&world, "keys");
    assert!(open(&keys[0].1, own.keys()).is_ok(), "the operator's identity does, so the look is a real one");
    assert_nothing_kept_opens_anything(&world);
}

/// It then keeps generations that others made, and has made an epoch itself.
#[test]
fn after_a_rotation_elsewhere_and_a_rebase_nothing_on_the_host_opens_any_object() {
    let world = ten_backups();
    let bob = crate::keys::person(&world, "bob");
    crate::keys::keys(&world, &["add", "-r", &bob], &["operator"]).exits(0);
    world.backup();
    world.sealift(&["keys", "rebase", "-r", &bob]).exits(0);
    world.backup();
    assert!(kept(&world).iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "age")).count() == 3);
    assert_nothing_kept_opens_anything(&world);
}

fn assert_nothing_kept_opens_anything(world: &World) {
    let sealed: Vec<_> = ["packs", "manifests", "keys"].into_iter().flat_map(|folder| objects(world, folder)).collect();
    assert!(sealed.len() > 20, "{}", sealed.len());
    for (path, bytes) in kept(world) {
        let text = String::from_utf8_lossy(&bytes).to_uppercase();
        assert!(!text.contains("AGE-SECRET-KEY"), "{}", path.display());
        let Ok(identity) = IdentityFile::parse(&bytes, "kept", &Unprompted) else { continue };
        for (object, sealed) in &sealed {
            assert!(open(sealed, identity.keys()).is_err(), "{} opens {}", path.display(), object.display());
        }
    }
}

/// The signer is an SSH key, and SSH keys can be age identities; raw 32-byte secrets could be X25519 keys.
#[test]
fn no_raw_key_on_the_host_opens_any_object() {
    let world = ten_backups();
    let sealed: Vec<_> =
        ["packs", "manifests", "keys"].into_iter().flat_map(|folder| objects(&world, folder)).collect();
    let secret = fs::read(world.state_of_repository().join("fingerprint.key")).unwrap();
    let identity = as_identity(&secret);
    let file = IdentityFile::parse(identity.as_bytes(), "raw", &Unprompted).expect("32 bytes are an identity");
    let own = age::x25519::Identity::generate();
    assert!(identity.len() == own.to_string().expose_secret().len(), "as long as any identity");
    for (object, sealed) in &sealed {
        assert!(open(sealed, file.keys()).is_err(), "{}", object.display());
    }
    assert!(world.state_of_repository().join("signer").exists());
}

/// `bytes` as an age identity: Bech32 with the prefix AGE-SECRET-KEY-.
fn as_identity(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let prefix = b"age-secret-key-";
    let mut values: Vec<u8> = Vec::new();
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            values.push((buffer >> bits) as u8 & 31);
        }
    }
    values.push((buffer << (5 - bits)) as u8 & 31);
    let mut check = 1_u32;
    let expanded = prefix.iter().map(|c| c >> 5).chain([0]).chain(prefix.iter().map(|c| c & 31));
    for value in expanded.chain(values.iter().copied()).chain([0; 6]) {
        let top = check >> 25;
        check = ((check & 0x1ff_ffff) << 5) ^ u32::from(value);
        for (bit, generator) in [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3].iter().enumerate() {
            if top >> bit & 1 == 1 {
                check ^= generator;
            }
        }
    }
    check ^= 1;
    values.extend((0..6).map(|n| (check >> (5 * (5 - n))) as u8 & 31));
    let text: String = values.iter().map(|value| char::from(ALPHABET[usize::from(*value)])).collect();
    format!("age-secret-key-1{text}").to_uppercase()
}

#[test]
fn what_the_host_keeps_is_for_its_own_user_alone() {
    let world = ten_backups();
    for (path, (mode, ..)) in tree(&world.state()) {
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    assert_eq!(fs::metadata(world.identity()).unwrap().mode() & 0o077, 0);
}

#[test]
fn the_repository_shows_no_name_no_secret_and_no_recipient() {
    let world = World::ready();
    world.set_environment("TOKEN=very-much-a-secret\n");
    world.backup();
    let recipient = fs::read_to_string(world.config())
        .unwrap()
        .split('"')
        .find(|word| word.starts_with("age1"))
        .unwrap()
        .to_owned();
    for (path, (_, _, bytes)) in tree(&world.path("repository")) {
        // The same in every repository: it knows what a key looks like, and none.
        if bytes == sealift::format::RECOVERY_SCRIPT.as_bytes() {
            continue;
        }
        let text = String::from_utf8_lossy(&bytes);
        for word in ["trinity.db", ".env", "very-much-a-secret", &recipient, "AGE-SECRET-KEY"] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
    }
}

#[test]
fn a_private_key_in_the_wrong_place_is_never_echoed() {
    let world = World::new();
    let (file, list) = (world.text("app/.env"), world.text("recipients"));
    fs::write(world.path("recipients"), format!("{SECRET}\n")).unwrap();
    let cases: [&[&str]; 5] = [
        &["init", "--file", &file, "-r", SECRET],
        &["init", "--file", &file, "-R", &list],
        &["restore", "-i", SECRET, "--to", "out"],
        &["restore", "-i", &list, "--signer", SECRET, "--to", "out"],
        &["snapshots", "latest", "-i", SECRET],
    ];
    for arguments in cases {
        for json in [&[][..], &["--json"]] {
            let output = world.sealift(&[arguments, json].concat()).exits(2);
            assert!(!output.all().contains("QQPQ"), "{arguments:?}: {}", output.all());
        }
    }
}

#[test]
fn a_secret_in_the_configuration_is_never_echoed() {
    let ready = World::ready();
    let text = fs::read_to_string(ready.config()).unwrap();
    let lines = [
        format!("identity = {SECRET:?}"),
        format!("recipients = [{SECRET:?}]"),
        format!("[s3]\nsecret_access_key = {SECRET:?}"),
        format!("secret = {SECRET}"),
        format!("compression = {SECRET:?}"),
    ];
    for line in lines {
        let key = line.split(' ').next().unwrap();
        let others: Vec<&str> = text.lines().filter(|old| !old.starts_with(key)).collect();
        let others = others.join("\n");
        let all = if line.starts_with('[') { format!("{others}\n{line}\n") } else { format!("{line}\n{others}\n") };
        fs::write(ready.config(), all).unwrap();
        let output = ready.sealift(&["backup"]).exits(2);
        assert!(!output.all().contains("QQPQ"), "{line}: {}", output.all());
    }
}

#[test]
fn an_identity_that_cannot_be_read_is_not_echoed() {
    let world = World::ready();
    world.backup();
    let mut reader = world.other_host("reader");
    reader.set_variable("SEALIFT_IDENTITY", SECRET);
    let output = reader.sealift(&["restore", "--to", &world.text("target")]);
    assert!(output.code == 2 || output.code == 12, "{output:?}");
    assert!(!output.all().contains("QQPQ"), "{}", output.all());
}

#[test]
fn credentials_are_in_no_output_however_loud() {
    let mut world = World::new();
    world.repository = "s3://bucket/trinity".to_owned();
    world.set_variable("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    world.set_variable("AWS_REGION", "us-east-1");
    world.set_variable("AWS_ACCESS_KEY_ID", "test-key");
    world.set_variable("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI");
    let output = world.sealift(&["snapshots", "-vv"]).exits(1);
    assert!(!output.all().contains("wJalrXUtnFEMI"), "{}", output.all());
}
