//! One host writes a repository. Any other one that tries is stopped, and nothing of the first changes.

use std::fs;

use sealift::crypto::{Signed, Signer};
use serde_json::{Value, json};

use crate::support::s3s::{S3s, Side};
use crate::support::world::{World, copy_tree, tree, wait_until};

#[test]
fn a_second_host_gets_16_and_nothing_of_the_first_changes() {
    let world = World::ready();
    world.backup();
    let second = world.other_host("second");
    fs::copy(world.config(), second.config()).unwrap();
    let own_state = fs::read_to_string(second.config()).unwrap().replace("host-state", "second-state");
    fs::write(second.config(), own_state).unwrap();
    let before = tree(&world.path("repository"));
    for arguments in [&["backup"][..], &["backup", "--adopt"], &["backup", "--dry-run"]] {
        second.sealift(arguments).exits(16).says("hint:");
        assert!(tree(&world.path("repository")) == before, "{arguments:?}");
    }
    assert_eq!(world.backup(), 2);
}

#[test]
fn init_on_a_finished_repository_is_refused_from_any_host() {
    let world = World::ready();
    world.backup();
    let before = (tree(&world.path("repository")), tree(&world.state()), fs::read(world.config()).unwrap());
    world.init().exits(15);
    world.other_host("second").init().exits(15);
    assert!((tree(&world.path("repository")), tree(&world.state()), fs::read(world.config()).unwrap()) == before);
}

#[test]
fn where_the_descriptor_is_missing_init_is_refused_and_the_hosts_next_backup_restores_it() {
    let world = World::ready();
    world.backup();
    let descriptor = world.path("repository/repository.json");
    let bytes = fs::read(&descriptor).unwrap();
    fs::remove_file(&descriptor).unwrap();
    world.other_host("second").init().exits(15).says("repository.json");
    assert!(!descriptor.exists());
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"descriptor-changed".to_owned()), "{output:?}");
    assert!(fs::read(&descriptor).unwrap() == bytes);
    world.sealift(&["backup"]).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_backup_runs_another_gets_11_with_its_pid_or_waits() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    let held = server.hold("PUT", "/snapshots/", Side::Before);
    let first = world.start(&["backup", "--json"]);
    held.reached();
    world.sealift(&["backup"]).exits(11).says(&format!("{}", first.pid()));
    let mut second = world.start(&["backup", "--json", "--wait", "50s"]);
    let lock = world.state_of_repository().join("lock").canonicalize().unwrap();
    let opened = |pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == lock))
    };
    wait_until("the second backup stands at the lock", || opened(second.pid()));
    assert!(second.is_running());
    held.release();
    assert_eq!(first.wait().exits(0).json()["sequence"], 1);
    assert_eq!(second.wait().exits(0).json()["sequence"], 2);
}

#[test]
fn of_two_machines_with_one_key_the_one_that_comes_late_is_stopped() {
    let world = World::ready();
    world.backup();
    let clone = world.other_host("clone");
    copy_tree(&world.state(), &clone.state());
    fs::write(clone.config(), fs::read_to_string(world.config()).unwrap().replace("host-state", "clone-state"))
        .unwrap();
    assert_eq!(clone.backup(), 2);
    let before = tree(&world.path("repository"));
    world.sealift(&["backup"]).exits(16).says("--adopt");
    assert!(tree(&world.path("repository")) == before);
}

#[test]
fn with_an_older_state_directory_a_backup_stops_and_adopt_takes_a_whole_snapshot() {
    let world = World::ready();
    world.backup();
    copy_tree(&world.state(), &world.path("older"));
    world.add_rows(50);
    world.backup();
    fs::remove_dir_all(world.state()).unwrap();
    copy_tree(&world.path("older"), &world.state());

    let before = tree(&world.path("repository"));
    world.sealift(&["backup"]).exits(16).says("--adopt");
    assert!(tree(&world.path("repository")) == before, "no hollow snapshot");

    world.add_rows(50);
    let now = world.sources();
    let adopted = world.sealift(&["backup", "--adopt", "--json"]).exits(0).json();
    assert_eq!(adopted["sequence"], 3);
    world.assert_restores(3, &now);
    assert_eq!(world.backup(), 4, "from then on as ever");
    world.assert_restores(4, &now);
}

#[test]
fn in_a_rolled_back_bucket_a_backup_stops_and_adopt_continues() {
    let world = World::ready();
    world.backup();
    world.add_rows(10);
    world.backup();
    fs::remove_file(world.record(2)).unwrap();
    world.sealift(&["backup"]).exits(16).says("snapshot 2");
    assert!(!world.record(2).exists());
    let now = world.sources();
    let sequence = world.sealift(&["backup", "--adopt", "--json"]).exits(0).json()["sequence"].as_u64().unwrap();
    world.assert_restores(sequence, &now);
}

#[test]
fn a_state_directory_of_another_repository_is_not_ours_to_write_with() {
    let world = World::ready();
    world.backup();
    fs::rename(world.path("repository"), world.path("old")).unwrap();
    let other = world.other_host("other");
    fs::remove_file(world.identity()).unwrap();
    other.init().exits(0);
    let before = tree(&world.path("repository"));
    world.sealift(&["backup"]).exits(13).says("--accept-signer");
    assert!(tree(&world.path("repository")) == before);
}

const UNTRUSTED: &str = "record-untrusted";

/// The newest record as another signer would have written it, under the next number, with these takeovers.
fn foreign_record(world: &World, signer: &Signer, takeovers: Value) -> Signed {
    let mut record = world.record_json(1);
    record["sequence"] = 2.into();
    record["host"] = "elsewhere".into();
    record["takeovers"] = takeovers;
    signer.sign(&record.to_string()).unwrap()
}

#[test]
fn a_record_above_ours_that_claims_a_takeover_stops_the_writer() {
    let world = World::ready();
    let then = world.sources();
    world.backup();
    let other = Signer::generate().unwrap();
    let claim = json!([{"from": world.signer().public(), "last": 1, "to": other.public()}]);
    fs::write(world.record(2), foreign_record(&world, &other, claim).bytes()).unwrap();
    let before = tree(&world.path("repository"));
    world.sealift(&["backup"]).exits(16).says("elsewhere").says(&other.public().fingerprint());
    world.add_rows(5);
    world.sealift(&["backup"]).exits(16);
    world.sealift(&["backup", "--adopt"]).exits(16).says("elsewhere");
    assert!(tree(&world.path("repository")) == before);
    world.restore("latest", "restored").exits(13);
    world.assert_restores(1, &then);
}

#[test]
fn a_record_above_ours_by_an_unknown_key_is_passed_over_with_a_problem() {
    let world = World::ready();
    world.backup();
    fs::write(world.record(2), foreign_record(&world, &Signer::generate().unwrap(), json!([])).bytes()).unwrap();
    let restored = world.restore("latest", "restored").exits(3);
    assert_eq!((restored.json()["sequence"].clone(), restored.warnings()), (1.into(), vec![UNTRUSTED.to_owned()]));
    for sequence in [3, 4] {
        world.add_rows(5);
        let now = world.sources();
        let adopt: &[&str] = if sequence == 4 { &["--adopt"] } else { &[] };
        let output = world.sealift(&[&["backup", "--json"], adopt].concat()).exits(3);
        assert!(output.warnings().contains(&UNTRUSTED.to_owned()), "{output:?}");
        assert_eq!(output.json()["sequence"], sequence);
        assert_eq!(world.record_json(sequence)["earlier"], json!([[1, 1], [3, 3]][..sequence as usize - 2]));
        world.assert_restores(sequence, &now);
    }
}

#[test]
fn garbage_above_ours_is_passed_over_with_a_problem_and_numbering_goes_on_around_it() {
    let world = World::ready();
    world.backup();
    fs::write(world.record(2), "no record\n").unwrap();
    world.add_rows(5);
    let now = world.sources();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert!(output.warnings().contains(&"record-damaged".to_owned()), "{output:?}");
    assert_eq!(output.json()["sequence"], 3);
    world.assert_restores(3, &now);
}

#[test]
fn a_record_that_was_changed_after_signing_does_not_become_the_parent() {
    let world = World::ready();
    world.backup();
    let text = fs::read_to_string(world.record(1)).unwrap();
    fs::write(world.record(2), text.replacen("\"sequence\":1", "\"sequence\":2", 1)).unwrap();
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert_eq!(output.json()["sequence"], 3);
    assert_eq!(world.record_json(3)["earlier"], json!([[1, 1]]));
}

#[test]
fn nothing_changed_puts_one_object_and_says_so() {
    let world = World::ready();
    world.backup();
    let before = tree(&world.path("repository"));
    let json = world.sealift(&["backup", "--json"]).exits(0).json();
    assert_eq!(json["unchanged"], true);
    let after = tree(&world.path("repository"));
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert_eq!(new, [&world.record(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_machines_with_one_key_that_commit_at_once_one_is_stopped() {
    let server = S3s::start().await;
    let world = World::in_bucket(&server);
    world.backup();
    let clone = world.other_host("clone");
    copy_tree(&world.state(), &clone.state());
    fs::write(clone.config(), fs::read_to_string(world.config()).unwrap().replace("host-state", "clone-state"))
        .unwrap();
    let held = server.hold("PUT", "/snapshots/", Side::Before);
    let slow = world.start(&["backup", "--json"]);
    held.reached();
    world.add_rows(5);
    let now = world.sources();
    assert_eq!(clone.backup(), 2);
    held.release();
    slow.wait().exits(16).says("copy");
    world.assert_restores(2, &now);
    world.sealift(&["backup"]).exits(16);
}

#[test]
fn init_does_not_hand_a_repository_to_a_host_whose_state_is_of_another() {
    let world = World::ready();
    world.backup();
    let other = world.other_host("other");
    copy_tree(&world.state(), &other.state());
    let before = tree(&other.state());
    other.init().exits(15);
    assert!(tree(&other.state()) == before);
}

#[test]
fn junk_under_the_highest_numbers_does_not_move_the_next_snapshot() {
    let world = World::ready();
    assert_eq!(world.backup(), 1);
    for name in ["9999999999.record", "18446744073709551615.record", "00000000003.record"] {
        std::fs::write(world.path("repository/snapshots").join(name), "junk").unwrap();
    }
    world.add_rows(10);
    let output = world.sealift(&["backup", "--json"]).exits(3);
    assert_eq!(output.json()["sequence"], 2);
    world.assert_restores(2, &world.sources());
}
