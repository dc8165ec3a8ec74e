//! `sealift demo`, as a person runs it: what it proves, what it says, and what it leaves behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The demo, with an empty directory of ours as the temporary one.
fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
    command.arg("demo").env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("a directory").next().is_none()
}

#[test]
fn every_proof_holds_and_the_figures_are_those_promised() {
    let temporary = tempfile::tempdir().expect("a directory");
    // Settings of the person's own have no say.
    let output = demo(temporary.path())
        .arg("--json")
        .env("SEALIFT_REPOSITORY", "s3://elsewhere")
        .env("SEALIFT_IDENTITY_FILE", "/nowhere")
        .output()
        .expect("it runs");
    let document = document(&output);
    assert_eq!(output.status.code(), Some(0), "{document:#}");
    assert_eq!(document["ok"], true);
    assert_eq!(document["directory"], Value::Null);
    let proofs = document["proofs"].as_array().expect("proofs");
    let names: Vec<_> = proofs.iter().filter_map(|proof| proof["name"].as_str()).collect();
    let expected =
        ["vacuum", "unchanged", "writer", "integrity", "invariant", "identical", "environment", "wrong_identity"];
    assert_eq!(names, expected);
    assert!(proofs.iter().all(|proof| proof["ok"] == true), "{proofs:#?}");

    let figure = |name: &str| document["figures"][name].as_f64().unwrap_or_else(|| panic!("no figure {name}"));
    assert!((30e6..60e6).contains(&figure("database_bytes")));
    assert!(figure("first_stored_bytes") < figure("database_bytes") / 2.0, "compressed");
    assert!(figure("day_percent") < 12.0, "{}", figure("day_percent"));
    assert!(figure("vacuum_new_pages_percent") > 50.0, "VACUUM moved the pages");
    assert!(figure("vacuum_stored_bytes") <= figure("first_stored_bytes") / 20.0);
    assert_eq!(figure("unchanged_puts"), 1.0);
    assert!(figure("unchanged_stored_bytes") < 10_000.0);
    assert!(figure("commits_during_backups") > 0.0);
    assert!(figure("longest_commit_seconds") < 5.0);
    assert_eq!(figure("wrong_identity_exit_code"), 12.0);

    let steps = document["steps"].as_array().expect("steps");
    let commands = steps.iter().flat_map(|step| step["commands"].as_array().into_iter().flatten());
    let commands: Vec<_> = commands.filter_map(|command| command["command"].as_str()).collect();
    assert_eq!(commands.len(), 9, "{commands:#?}");
    assert!(
        commands.iter().all(|command| command.starts_with("sealift ") && !command.contains(" \\")),
        "{commands:#?}"
    );
    assert!(is_empty(temporary.path()));
}

#[test]
fn a_plain_run_fits_a_terminal_ends_with_what_to_type_next_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a directory");
    let output = demo(temporary.path()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains('\x1b'), "no colour but on a terminal");
    for line in text.lines() {
        assert!(line.chars().count() <= 80 && line == line.trim_end(), "{line:?}");
    }
    let (_, end) = text.split_once("\nProved\n").expect("what was proved");
    let (_, next) = end.split_once("\nNext").expect("what to do next");
    let places: Vec<_> = ["sealift init", "--database", "--file", "sealift backup", "sealift restore"]
        .map(|word| next.find(word).unwrap_or_else(|| panic!("no {word} in {next}")))
        .to_vec();
    assert!(places.is_sorted());
    assert!(is_empty(temporary.path()));
}

#[test]
fn an_empty_directory_is_worked_in_and_kept_and_quiet_is_silent() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path().join("new");
    let output = demo(temporary.path()).arg("-q").arg("--dir").arg(&dir).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    for kept in ["host/trinity.db", "repository", "operator/key.txt", "fresh/latest/.env"] {
        assert!(dir.join(kept).exists(), "{kept}");
    }
}

#[test]
fn a_directory_with_something_in_it_is_refused() {
    let temporary = tempfile::tempdir().expect("a directory");
    let file = temporary.path().join("mine");
    fs::write(&file, "precious").expect("a file");
    for dir in [temporary.path(), &file] {
        let output = demo(temporary.path()).arg("--json").arg("--dir").arg(dir).output().expect("it runs");
        assert_eq!(output.status.code(), Some(15));
        assert_eq!(document(&output)["error"]["code"], 15);
    }
    assert_eq!(fs::read_to_string(&file).expect("still there"), "precious");
    assert_eq!(fs::read_dir(temporary.path()).expect("a directory").count(), 1);
}

#[test]
fn an_interrupt_ends_it_at_any_moment_and_leaves_nothing() {
    for millis in [0, 700, 1800] {
        let temporary = tempfile::tempdir().expect("a directory");
        let mut child = demo(temporary.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        while is_empty(temporary.path()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(millis));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
            .expect("it still runs");
        let asked = Instant::now();
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "after {millis} ms");
        assert!(asked.elapsed() < Duration::from_secs(10));
        assert!(is_empty(temporary.path()));
    }
}
