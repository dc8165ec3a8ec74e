//! `--json`: exactly one document on standard output, whatever happens, with the members that scripts rely on.

use std::collections::BTreeSet;
use std::fs;

use sealift::finding::Finding;
use serde_json::Value;

use crate::support::world::World;

#[track_caller]
fn has(document: &Value, members: &[&str]) {
    for member in members {
        assert!(document.get(member).is_some_and(|value| !value.is_null()), "{member} is not in {document}");
    }
}

/// What all documents have, and each finding in them.
#[track_caller]
fn is_a_document(document: &Value, command: &str) {
    assert_eq!(document["version"], 1, "{command}: {document}");
    let findings = document["warnings"].as_array().unwrap_or_else(|| panic!("{command} has no warnings: {document}"));
    for finding in findings {
        has(finding, &["code", "severity", "subject", "message"]);
        let code = finding["code"].as_str().unwrap();
        let (_, severity) = Finding::ALL.iter().find(|(known, _)| *known == code).expect("a known code");
        assert_eq!(finding["severity"], serde_json::to_value(severity).unwrap(), "{command}: {finding}");
    }
}

/// The commands that a page of help lists.
fn commands_of(world: &World, page: &[&str]) -> BTreeSet<String> {
    let help = world.sealift(&[page, &["--help"]].concat()).exits(0).all();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    list.lines().filter_map(|line| Some(line.strip_prefix("  ")?.split_whitespace().next()?.to_owned())).collect()
}

#[test]
fn each_document_is_an_object_with_version_and_warnings() {
    let world = World::new();
    let mut seen = BTreeSet::new();
    let mut on = |machine: &World, code: i32, arguments: &[&str]| {
        let output = machine.sealift(&[arguments, &["--json"]].concat()).exits(code);
        is_a_document(&output.json(), &arguments.join(" "));
        seen.insert(arguments[0].to_owned());
        if arguments[0] == "keys" {
            seen.insert(format!("keys {}", arguments[1]));
        }
    };
    let (key, bob_key, database) =
        (world.text("operator.key"), world.text("bob.key"), world.database().display().to_string());
    let target = |name: &str| world.text(name);
    let (operator, fresh) = (world.other_host("operator"), world.other_host("fresh"));
    on(&world, 0, &["init", "--database", &database, "--new-identity", &key, "--no-passphrase"]);
    on(&world, 0, &["init", "--if-missing"]);
    on(&operator, 4, &["restore", "-i", &key, "--to", &target("a"), "--if-missing"]);
    on(&world, 14, &["status"]);
    on(&world, 0, &["backup", "--dry-run"]);
    on(&world, 0, &["backup"]);
    on(&world, 0, &["snapshots"]);
    on(&operator, 0, &["snapshots", "1", "-i", &key]);
    on(&operator, 0, &["restore", "-i", &key, "--to", &target("a"), "--dry-run"]);
    on(&operator, 0, &["restore", "-i", &key, "--to", &target("a")]);
    on(&operator, 0, &["restore", "-i", &key, "--to", &target("a"), "--if-missing"]);
    on(&world, 0, &["check"]);
    on(&operator, 0, &["check", "--read-data", "-i", &key]);
    on(&operator, 0, &["drill", "-i", &key]);
    on(&world, 0, &["status"]);
    on(&world, 0, &["status", "--repository", &world.repository, "--repository", &world.repository]);
    on(&world, 0, &["doctor"]);
    on(&operator, 0, &["doctor", "--policy", "writer", "--repository", "s3://bucket/trinity"]);
    on(&world, 0, &["retain", "--keep-last", "1"]);
    on(&world, 0, &["retain", "--keep-last", "1", "--apply"]);
    on(&operator, 0, &["recovery-kit", &target("kit"), "-i", &key]);
    on(&operator, 0, &["keys", "new", &bob_key, "--no-passphrase"]);
    let text = fs::read_to_string(&bob_key).unwrap();
    let bob = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    on(&operator, 0, &["keys", "list", "-i", &key]);
    on(&operator, 0, &["keys", "add", "-r", bob, "-i", &key]);
    on(&operator, 0, &["keys", "confirm", "-i", &bob_key, "-i", &key]);
    on(&operator, 0, &["keys", "remove", "-r", bob, "-i", &key, "--proof", &key]);
    on(&operator, 0, &["keys", "rotate", "-r", bob, "-i", &key, "--proof", &bob_key]);
    on(&world, 0, &["keys", "restore", "-i", &bob_key]);
    on(&world, 0, &["keys", "rebase", "-r", bob]);
    let takeover = ["init", "--take-over", "--yes", "--database", &database, "-r", bob, "-i", &bob_key];
    on(&fresh, 0, &takeover);
    on(&world, 0, &["demo"]);
    // No page of help is a document, whatever it is about.
    let no_documents = ["help", "completions", "man"].map(str::to_owned);
    let keys =
        commands_of(&world, &["keys"]).into_iter().filter(|name| name != "help").map(|name| format!("keys {name}"));
    let expected: BTreeSet<String> = commands_of(&world, &[]).into_iter().chain(keys).collect();
    seen.extend(no_documents);
    assert_eq!(seen, expected, "each command is tried");
}

#[test]
fn each_command_says_what_it_did_in_one_document() {
    let world = World::new();
    let init = world.init().exits(0).json();
    has(&init, &["repository", "url", "signer", "epoch", "recipients", "config", "restore", "warnings"]);

    let survey = world.sealift(&["backup", "--dry-run", "--json"]).exits(0).json();
    has(&survey, &["new_bytes", "source_bytes", "warnings"]);

    let backup = world.sealift(&["backup", "--tag", "before-upgrade", "--tag", "b", "--json"]).exits(0).json();
    has(&backup, &["sequence", "manifest", "unchanged", "stored_bytes", "requests", "writer_hold_seconds", "warnings"]);
    has(&backup["requests"], &["create", "list"]);
    assert_eq!(backup["unchanged"], false);

    let list = world.sealift(&["snapshots", "--json"]).exits(0).rows();
    has(&list[0], &["sequence", "time", "host", "health", "stored_bytes", "packs", "tags"]);
    assert_eq!(list[0]["tags"], serde_json::json!(["before-upgrade", "b"]));
    assert_eq!(list[0]["health"], "ok");
    assert!(list[0]["time"].as_str().unwrap().ends_with('Z'));

    let contents = world.sealift(&["snapshots", "latest", "-i", &world.text("operator.key"), "--json"]).exits(0).json();
    assert_eq!(contents["files"].as_array().unwrap().len(), 3);
    has(&contents["files"][0], &["name", "kind", "bytes", "mode", "modified", "digest"]);

    let restore = world.restore("latest", "target").exits(0).json();
    has(&restore, &["sequence", "files", "downloaded_bytes"]);
    has(&restore["files"][0], &["name", "path", "bytes"]);
}

#[test]
fn each_error_is_one_document_with_its_code() {
    let world = World::ready();
    world.backup();
    let identity = world.text("operator.key");
    let full = world.text("app");
    let cases: [(&[&str], i32); 9] = [
        (&["init", "--file", "x", "--new-identity", "key", "--no-passphrase"], 15),
        (&["backup", "--repository", "/nowhere"], 10),
        (&["snapshots", "--repository", "gopher://x"], 2),
        (&["snapshots", "--repository", "/nowhere"], 10),
        (&["snapshots", "9", "-i", &identity], 1),
        (&["restore", "-i", &identity, "--to", &full], 15),
        (&["restore", "-i", "/nowhere/key", "--to", "x"], 2),
        (&["restore", "9", "-i", &identity, "--to", "x"], 1),
        (&["restore", "--to", "x"], 2),
    ];
    for (arguments, code) in cases {
        let json = world.sealift(&[arguments, &["--json"]].concat()).exits(code).json();
        assert_eq!(json["error"]["code"], code, "{arguments:?}");
        is_a_document(&json, &arguments.join(" "));
        assert!(!json["error"]["message"].as_str().unwrap().is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_flag_is_one_document_too() {
    let world = World::ready();
    for arguments in
        [&["backup", "--no-such-flag", "--json"][..], &["--json", "backups"], &["restore", "--json"], &["--json"]]
    {
        let json = world.sealift(arguments).exits(2).json();
        assert_eq!(json["error"]["code"], 2, "{arguments:?}");
        is_a_document(&json, &arguments.join(" "));
    }
    let plain = world.sealift(&["backup", "--no-such-flag"]).exits(2);
    assert!(plain.stdout.is_empty());
}

#[test]
fn help_and_version_are_no_errors() {
    let world = World::new();
    for arguments in [&["--help"][..], &["backup", "--help"], &["--version"], &["man"], &["completions", "bash"]] {
        let output = world.sealift(arguments).exits(0);
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_unverifiable_snapshot_is_listed_as_a_problem() {
    let world = World::ready();
    world.backup();
    fs::write(world.record(2), "garbage").unwrap();
    let output = world.sealift(&["snapshots", "--json"]).exits(3);
    let list = output.rows();
    assert_eq!(list[1]["sequence"], 2);
    has(&list[1], &["problem"]);
    assert_eq!(output.warnings(), ["record-damaged"]);
    world.sealift(&["snapshots"]).exits(3).says("[record-damaged]");
}

#[test]
fn strict_makes_a_warning_3() {
    let world = World::ready();
    world.sealift(&["backup", "--strict", "--json"]).exits(3).says("single-recipient");
}

#[test]
fn results_go_to_standard_output_and_nothing_else_does() {
    let world = World::ready();
    let output = world.sealift(&["backup"]).exits(0);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("snapshot 1 of "), "{output:?}");
    assert!(output.stderr.starts_with("warning: "), "{output:?}");
    let error = world.sealift(&["snapshots", "--repository", "/nowhere"]).exits(10);
    assert!(error.stdout.is_empty() && error.stderr.contains("hint: "), "{error:?}");
}

#[test]
fn the_restore_command_that_init_prints_works_as_it_stands() {
    let world = World::new();
    let restore = world.init().exits(0).json()["restore"].as_str().unwrap().to_owned();
    world.backup();
    let script = restore
        .replacen("sealift", &format!("'{}'", env!("CARGO_BIN_EXE_sealift")), 1)
        .replace("DIR", &world.text("target"));
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &script]).env_clear().env("HOME", world.path("empty")).current_dir(world.path("empty"));
    command.env("SEALIFT_STATE_DIR", world.path("reader-state"));
    crate::support::world::Output::of(&mut command).exits(0);
    assert!(fs::read(world.path("target/trinity.db")).unwrap() == world.sources().database);
}
