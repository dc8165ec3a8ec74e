//! `--json`: exactly one document on standard output, whatever happens, with the members that scripts rely on.

use std::fs;

use serde_json::Value;

use crate::support::world::World;

#[track_caller]
fn has(document: &Value, members: &[&str]) {
    for member in members {
        assert!(document.get(member).is_some_and(|value| !value.is_null()), "{member} is not in {document}");
    }
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

    let list = world.sealift(&["snapshots", "--json"]).exits(0).json();
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
    let list = world.sealift(&["snapshots", "--json"]).exits(3).json();
    assert_eq!(list[1]["sequence"], 2);
    has(&list[1], &["problem"]);
    world.sealift(&["snapshots"]).exits(3).says("cannot be verified");
}

#[test]
fn strict_makes_a_standing_warning_3() {
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
