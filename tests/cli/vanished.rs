//! A record that this machine saw and that is not listed today: what it needs stays for the grace period, whoever is at fault.

use std::fs;

use jiff::Timestamp;
use sealift::host::Pins;

use crate::retain::{history_of, signer};
use crate::support::past::days_ago;
use crate::support::world::{Output, World};

const APPLY: [&str; 5] = ["retain", "--keep-last", "9", "--apply", "--json"];

/// Three old snapshots, and a pruner that saw them before the record of `lost` went.
fn lost(sequence: u64) -> (World, World) {
    let (world, _) = history_of(&[30, 20, 10]);
    let pruner = world.other_host("pruner");
    pruner.sealift(&["snapshots", "--signer", &signer(&world)]).exits(0);
    fs::rename(world.record(sequence), world.path("kept")).unwrap();
    (world, pruner)
}

fn manifests(world: &World) -> usize {
    fs::read_dir(world.path("repository/manifests")).unwrap().count()
}

fn stopped(output: Output, sequence: u64) {
    let output = output.says(&format!("--forget {sequence}")).says("no rule explains it");
    assert!(output.warnings().contains(&"nothing-pruned".to_owned()), "{output:?}");
}

#[test]
fn what_a_record_needs_that_is_missing_from_one_listing_is_there_when_it_comes_back() {
    for sequence in [2, 3] {
        let (world, pruner) = lost(sequence);
        // Whatever else looks on in between and tells it.
        pruner.sealift(&["snapshots"]).exits(3);
        for _ in 0..2 {
            stopped(pruner.sealift(&APPLY).exits(3), sequence);
        }
        assert_eq!(manifests(&world), 3);
        fs::rename(world.path("kept"), world.record(sequence)).unwrap();
        pruner.sealift(&APPLY).exits(0);
        world.restore(&sequence.to_string(), "back").exits(0);
    }
}

#[test]
fn a_person_lets_go_of_what_vanished() {
    let (world, pruner) = lost(2);
    stopped(pruner.sealift(&APPLY).exits(3), 2);
    pruner.sealift(&["retain", "--forget", "1", "--apply"]).exits(2);
    pruner.sealift(&["retain", "--forget", "2", "--apply"]).exits(0);
    assert_eq!(manifests(&world), 2);
}

#[test]
fn what_vanished_and_stays_away_for_the_grace_period_is_gone() {
    let (world, pruner) = lost(2);
    pruner.sealift(&APPLY).exits(3);
    let first_told = |time: Timestamp| {
        let dir = pruner.state_of_repository();
        let pins = Pins::load(&dir).unwrap();
        Pins { vanished: [(2, Some(time))].into(), ..pins }.save(&dir).unwrap();
    };
    first_told(days_ago(6));
    stopped(pruner.sealift(&APPLY).exits(3), 2);
    first_told(days_ago(8));
    pruner.sealift(&APPLY).exits(0);
    assert_eq!(manifests(&world), 2);
}

#[test]
fn what_is_told_once_is_told_by_the_first_command_that_comes_so_far() {
    let (world, _) = history_of(&[4, 3, 2]);
    let signer = signer(&world);
    let full = world.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("app.db"), "in the way").unwrap();
    let (identity, full) = (world.identity().display().to_string(), full.display().to_string());
    let wrong = world.path("wrong.key").display().to_string();
    world.sealift(&["keys", "new", "--no-passphrase", &wrong]).exits(0);
    let failing: [(&[&str], i32); 9] = [
        (&["retain", "--remove", "99"], 1),
        (&["retain", "--keep-last", "0"], 15),
        (&["retain", "--keep-last", "0", "--apply"], 15),
        (&["restore", "99", "-i", &identity, "--to", &full], 1),
        (&["restore", "latest", "-i", &identity, "--to", &full], 15),
        (&["drill", "2", "-i", &identity], 1),
        (&["drill", "-i", &wrong], 12),
        (&["check", "-i", &wrong], 12),
        (&["snapshots", "99", "-i", &identity], 1),
    ];
    for (at, (command, code)) in failing.into_iter().enumerate() {
        let reader = world.other_host(&format!("reader {at}"));
        let status = || reader.sealift(&["status", "--max-age", "99d"]);
        reader.sealift(&["snapshots", "--signer", &signer]).exits(0);
        fs::rename(world.record(2), world.path("kept")).unwrap();
        for _ in 0..2 {
            let output = reader.sealift(command).exits(code);
            assert!(!output.all().contains("record-vanished"), "{output:?}");
        }
        let output = status().exits(3).says("snapshot 2 was there and is gone");
        assert_eq!(output.all().matches("record-vanished").count(), 1, "{output:?}");
        status().exits(0);
        fs::rename(world.path("kept"), world.record(2)).unwrap();
    }
}

#[test]
fn what_is_back_before_anybody_was_told_is_no_news() {
    let (world, pruner) = lost(2);
    pruner.sealift(&["retain", "--remove", "99"]).exits(1);
    fs::rename(world.path("kept"), world.record(2)).unwrap();
    pruner.sealift(&["status", "--max-age", "99d"]).exits(0);
}

#[test]
fn a_drill_that_fails_tells_what_vanished_and_a_run_that_deletes_tells_it_once() {
    let (world, pruner) = lost(2);
    let manifest = fs::read(world.manifest(1)).unwrap();
    fs::write(world.manifest(1), "something else").unwrap();
    let identity = world.identity().display().to_string();
    let output = pruner.sealift(&["drill", "1", "-i", &identity]).exits(13).says("FAILED");
    assert_eq!(output.all().matches("record-vanished").count(), 1, "{output:?}");
    fs::write(world.manifest(1), manifest).unwrap();
    let output = pruner.sealift(&["status", "--max-age", "99d"]);
    assert!(!output.all().contains("record-vanished"), "{output:?}");
    let other = world.other_host("another");
    let output = other.sealift(&["retain", "--keep-last", "1", "--apply", "--signer", &signer(&world)]).exits(3);
    assert_eq!(output.all().matches("[record-vanished]").count(), 1, "{output:?}");
}

#[test]
fn a_check_tells_once_what_vanished_and_what_to_think_of_it() {
    let (_world, pruner) = lost(2);
    pruner.sealift(&["check"]).exits(13).says("snapshot 2 was there and is gone").says("look at who can delete there");
    pruner.sealift(&["check"]).exits(0);
}
