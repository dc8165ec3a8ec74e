//! A record that this machine saw and that is not listed today: what it needs stays for the grace period, whoever is at fault.

use std::fs;

use jiff::Timestamp;
use sealift::state::Pins;

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
