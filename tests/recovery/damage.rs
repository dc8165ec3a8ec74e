//! What is damaged, missing or malicious: the script ends with the exit code that `sealift restore` has for it, says which
//! object it is, and leaves no file under its name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::forge::{commit, data_identity, manifest, put, sealed};
use crate::live::have;
use crate::script::{self, TOOLS};
use crate::support::world::{Output, World, tree};

fn two_snapshots() -> Option<World> {
    have(&TOOLS).then(|| {
        let world = World::ready();
        world.backup();
        world.add_rows(20);
        world.backup();
        world
    })
}

/// A restore into a new folder; what went wrong left no file there.
fn restore(world: &World, more: &[&str]) -> Output {
    let to = (0..).map(|n| world.path(&format!("out-{n}"))).find(|to| !to.exists()).unwrap();
    let (key, target) = (world.text("operator.key"), to.display().to_string());
    let output = script::run("restore", &world.path("repository"), &[&["-i", &key, "--to", &target], more].concat());
    if output.code != 0 && output.code != 3 {
        assert!(tree(&to).is_empty(), "{output:?} left {:?}", tree(&to).keys());
    }
    output
}

type Harm = (&'static str, fn(&mut Vec<u8>));

const HARMS: [Harm; 5] = [
    ("a byte at the beginning", |bytes| bytes[0] ^= 4),
    ("a byte in the middle", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
    }),
    ("a byte at the end", |bytes| *bytes.last_mut().unwrap() ^= 4),
    ("a cut", |bytes| bytes.truncate(bytes.len() * 2 / 3)),
    ("nothing left", Vec::clear),
];

/// The exit codes after each harm, and at last after the removal, of `object`.
fn codes(world: &World, object: &Path, more: &[&str]) -> Vec<i32> {
    let good = fs::read(object).unwrap();
    let name = object.file_name().unwrap().to_str().unwrap();
    let mut codes = Vec::new();
    for (what, harm) in HARMS {
        let mut bad = good.clone();
        harm(&mut bad);
        fs::write(object, bad).unwrap();
        let output = restore(world, more);
        assert!(output.all().contains(name), "{what}: {name} is not in {}", output.all());
        codes.push(output.code);
    }
    fs::remove_file(object).unwrap();
    codes.push(restore(world, more).code);
    fs::write(object, good).unwrap();
    codes
}

#[test]
fn a_damaged_pack_or_manifest_is_13_and_named() {
    let Some(world) = two_snapshots() else { return };
    for object in [world.packs(2)[0].clone(), world.manifest(2)] {
        assert_eq!(codes(&world, &object, &[]), [13; 6]);
    }
    restore(&world, &[]).exits(0);
}

#[test]
fn a_damaged_record_is_13_where_it_is_named_and_passed_over_where_it_is_not() {
    let Some(world) = two_snapshots() else { return };
    let mut bytes = fs::read(world.record(2)).unwrap();
    bytes[20] ^= 1;
    fs::write(world.record(2), bytes).unwrap();
    restore(&world, &["2"]).exits(13).says("snapshot 2");
    let output = restore(&world, &[]).exits(3);
    output.says("snapshot 1 of").says("snapshot 2 is passed over: it cannot be verified");
    fs::remove_file(world.record(2)).unwrap();
    restore(&world, &["2"]).exits(1).says("snapshot 2");
    fs::write(world.record(1), "garbage").unwrap();
    restore(&world, &[]).exits(13);
    fs::remove_file(world.record(1)).unwrap();
    restore(&world, &[]).exits(1);
}

/// One whose stanza was hit looks like one for somebody else.
#[test]
fn a_damaged_key_is_13_or_12_and_named() {
    let Some(world) = two_snapshots() else { return };
    let codes = codes(&world, &world.path("repository/keys/1/1.age"), &[]);
    assert!(codes.iter().all(|code| [12, 13].contains(code)), "{codes:?}");
    assert_eq!(codes[3..], [13, 13, 13], "what is cut, empty or missing is damage");
}

#[test]
fn a_repository_that_is_none_or_a_newer_one_is_told() {
    let Some(world) = two_snapshots() else { return };
    let path = world.path("repository/repository.json");
    let good = fs::read_to_string(&path).unwrap();
    let newer = good.replace("\"format\":1", "\"format\":2");
    for bad in [&good[..good.len() / 2], "", "[]", "{}", "null", &"[".repeat(100_000), &newer] {
        fs::write(&path, bad).unwrap();
        restore(&world, &[]).exits(13);
    }
    fs::remove_file(&path).unwrap();
    restore(&world, &[]).exits(10).says("no repository");
}

#[test]
fn wrong_usage_is_2_another_key_12_and_a_full_folder_15() {
    let Some(world) = two_snapshots() else { return };
    let (repository, key) = (world.path("repository"), world.text("operator.key"));
    let stranger = World::ready();
    fs::copy(stranger.identity(), world.path("stranger.key")).unwrap();
    fs::write(world.path("bad.key"), "not a key\n").unwrap();
    let (stranger, bad, full) = (world.text("stranger.key"), world.text("bad.key"), world.text("app"));
    let cases: [(&str, &[&str], i32); 9] = [
        ("restore", &["--to", "x"], 2),
        ("restore", &["-i", &key], 2),
        ("forget", &[], 2),
        ("check", &["-i", &bad], 2),
        ("check", &["-i", "/nowhere"], 2),
        ("check", &["-i", &key, "--only", "trinty.db"], 2),
        ("check", &["-i", &key, "--signer", "AGE-SECRET-KEY-1"], 2),
        ("check", &["-i", &stranger], 12),
        ("restore", &["-i", &key, "--to", &full], 15),
    ];
    let before = tree(&world.path("app"));
    for (verb, more, code) in cases {
        script::run(verb, &repository, more).exits(code);
    }
    assert!(tree(&world.path("app")) == before);
    script::run("check", &repository, &["-i", &stranger, "-i", &key]).exits(0);
    restore(&world, &["--only", ".env"]).exits(0);
    assert_eq!(fs::read_dir(world.path("out-0")).unwrap().count(), 1);
}

#[test]
fn check_finds_what_restore_would_and_writes_nothing() {
    let Some(world) = two_snapshots() else { return };
    let (repository, key) = (world.path("repository"), world.text("operator.key"));
    let before = tree(&world.path("."));
    script::run("check", &repository, &["-i", &key]).exits(0).says("every digest agrees");
    script::run("list", &repository, &[]).exits(0).says("ok");
    assert!(tree(&world.path(".")).keys().eq(before.keys()));
    let (mut head, tail) = manifest(&world, 2);
    head["sources"][0]["digest"] = json!(sealift::crypto::sha256(b"something else"));
    commit(&world, 2, (&head, &tail), |_| ());
    script::run("check", &repository, &["-i", &key]).exits(13).says("trinity.db").says("digest");
    script::run("check", &repository, &["-i", &key, "2"]).exits(0);
    restore(&world, &[]).exits(13).says("trinity.db").says("digest");
}

#[test]
fn planted_keys_are_noise() {
    let Some(world) = two_snapshots() else { return };
    let operator = fs::read_to_string(world.identity()).unwrap();
    let public = operator.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    let recipient = [sealift::crypto::Recipient::parse(public).unwrap()];
    let one = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let planted = [
        format!("{one}\n"),
        format!("{one}\n{one}\n"),
        "AGE-PLUGIN-EVIL-1QQQQ\n".to_owned(),
        String::new(),
        "x".repeat(2 << 20),
    ];
    for (number, text) in planted.iter().enumerate() {
        let sealed = sealift::crypto::seal(text.as_bytes(), &recipient).unwrap();
        fs::write(world.path(&format!("repository/keys/1/1{number}.age")), sealed.bytes()).unwrap();
    }
    fs::write(world.path("repository/keys/1/2.age"), "garbage").unwrap();
    fs::write(world.path("repository/keys/1/3.age"), vec![b'a'; 2 << 20]).unwrap();
    symlink("/dev/zero", world.path("repository/keys/1/4.age")).unwrap();
    fs::create_dir(world.path("repository/keys/1/5.age")).unwrap();
    restore(&world, &[]).exits(0);
    fs::remove_file(world.path("repository/keys/1/1.age")).unwrap();
    restore(&world, &[]).exits(13).says("keys/1/");
}

/// The host signs no such thing; somebody who has its key might.
#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let Some(world) = two_snapshots() else { return };
    let (head, tail) = manifest(&world, 2);
    let names = ["../up", "/tmp/up", "..", ".", "", "a/b", "a\nb", "a\u{85}b", ".env", &"n".repeat(256)];
    for name in names {
        let mut forged = head.clone();
        forged["sources"][0]["name"] = json!(name);
        commit(&world, 2, (&forged, &tail), |_| ());
        restore(&world, &[]).exits(13).says("name of its own");
    }
    for place in ["../../up", "../packs/x", "/etc/passwd"] {
        commit(&world, 2, (&head, &tail), |record| record["manifest"]["name"] = json!(place));
        restore(&world, &[]).exits(13);
        for member in ["epochs", "manifest"] {
            commit(&world, 2, (&head, &tail), |record| match member {
                "epochs" => record["epochs"][0]["epoch"] = json!(place),
                _ => record["manifest"]["epoch"] = json!(place),
            });
            restore(&world, &["3"]).exits(13);
            restore(&world, &[]).exits(3).says("snapshot 2 of").says("snapshot 3 is passed over");
        }
    }
    assert!(!world.path("up").exists() && !Path::new("/tmp/up").exists());
}

#[test]
fn a_manifest_that_does_not_hold_together_is_13() {
    let Some(world) = two_snapshots() else { return };
    let (head, tail) = manifest(&world, 2);
    let forgeries: [fn(&mut Value); 11] = [
        |head| head["sources"][0]["runs"] = json!(0),
        |head| head["sources"][0]["runs"] = json!(4_000_000_000_u64),
        |head| head["sources"][0]["bytes"] = json!(1),
        |head| head["sources"][0]["bytes"] = json!("many"),
        |head| head["sources"][0]["kind"] = json!("folder"),
        |head| head["sources"][0]["block_size"] = json!(0),
        |head| head["sources"][0]["block_size"] = json!(8192),
        |head| head["packs"] = json!([]),
        |head| head["packs"] = json!(["0".repeat(64)]),
        |head| head["sources"] = json!({}),
        |head| head["format"] = json!(2),
    ];
    for (number, forge) in forgeries.into_iter().enumerate() {
        let mut forged = head.clone();
        forge(&mut forged);
        commit(&world, 2, (&forged, &tail), |_| ());
        let output = restore(&world, &[]);
        assert_eq!(output.code, 13, "forgery {number}: {output:?}");
        let with = world.restore("3", &format!("with-{number}"));
        assert_eq!(with.code, 13, "forgery {number}: {with:?}");
    }
    commit(&world, 2, (&head, &tail[..tail.len() - 1]), |_| ());
    restore(&world, &[]).exits(13);
    commit(&world, 2, (&head, &tail), |record| record["epochs"][0]["packs"] = json!([]));
    restore(&world, &[]).exits(13);
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let Some(world) = two_snapshots() else { return };
    let (head, tail) = manifest(&world, 2);
    let bomb = sealed(&data_identity(&world, 1), &vec![0; 64 << 20]);
    let name = put(&world, "packs", &bomb);
    let mut forged = head.clone();
    forged["packs"][0] = json!(name);
    commit(&world, 2, (&forged, &tail), |record| {
        record["epochs"][0]["packs"].as_array_mut().unwrap().push(json!([name, bomb.len()]));
    });
    restore(&world, &[]).exits(13).says("larger than any");
    let bomb = sealed(&data_identity(&world, 1), &vec![b'x'; 300 << 20]);
    let name = put(&world, "manifests", &bomb);
    commit(&world, 2, (&head, &tail), |record| record["manifest"]["name"] = json!(name));
    restore(&world, &[]).exits(13).says("larger than any");
}

/// A run with a PATH on which nothing lies but these.
fn with_programs(world: &World, folder: &str, programs: &[&str]) -> Output {
    let bin = world.path(folder);
    fs::create_dir(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for program in ["sh"].iter().chain(programs) {
        let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
        symlink(found.unwrap().canonicalize().unwrap(), bin.join(program)).unwrap();
    }
    // What `python3` is may be a script that looks for the real one.
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    let mut command = Command::new(String::from_utf8(python.stdout).unwrap().trim());
    let repository = world.path("repository");
    command.arg(script::in_repository(&repository)).arg("check").arg(&repository);
    command.args(["-i", &world.text("operator.key")]).env_clear().env("PATH", &bin).env("HOME", world.path("empty"));
    script::run_command(&mut command)
}

#[test]
fn missing_programs_are_named_and_unchecked_signatures_are_said_aloud() {
    let Some(world) = two_snapshots() else { return };
    with_programs(&world, "all", &["age", "age-keygen", "zstd", "ssh-keygen"]).exits(0);
    with_programs(&world, "no ssh", &["age", "age-keygen", "zstd"]).exits(3).says("SIGNATURES ARE NOT CHECKED");
    with_programs(&world, "no zstd", &["age", "age-keygen", "ssh-keygen"]).exits(1).says("zstd is not installed");
    with_programs(&world, "no age", &["zstd", "ssh-keygen"]).exits(1).says("age is not installed");
}
