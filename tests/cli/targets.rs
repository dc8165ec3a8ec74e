//! Where a restore writes, what it refuses, and what it leaves as it was.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::support::world::{Output, World, tree, wait_until};

fn backed_up() -> World {
    let world = World::ready();
    world.backup();
    world
}

fn restore(world: &World, arguments: &[&str]) -> Output {
    let identity = world.text("operator.key");
    let mut all = vec!["restore"];
    all.extend(arguments);
    all.extend(["-i", &identity]);
    world.other_host("reader").sealift(&all)
}

/// A process that has a file open, until dropped.
struct User(Child);

impl User {
    fn of(path: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec 3<\"$0\"; echo ready; read line"]).arg(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        Self(child)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_target_that_is_not_empty_is_refused_and_left_alone() {
    let world = backed_up();
    fs::create_dir(world.path("target")).unwrap();
    fs::write(world.path("target/note"), "mine").unwrap();
    let before = tree(&world.path("target"));
    restore(&world, &["--to", &world.text("target")]).exits(15).says("--force");
    assert!(tree(&world.path("target")) == before);
}

#[test]
fn force_moves_aside_what_is_in_the_way_with_its_sidecars_and_deletes_nothing() {
    let world = backed_up();
    let now = world.sources();
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    let old = ["note", ".env", "trinity.db", "trinity.db-wal", "trinity.db-shm", "trinity.db-journal"];
    for name in old {
        fs::write(target.join(name), format!("old {name}")).unwrap();
    }
    let json = restore(&world, &["--to", &world.text("target"), "--force", "--json"]).exits(0).json();
    let moved = json["moved"].as_array().unwrap();
    assert_eq!(moved.len(), 5);
    for pair in moved {
        let (from, to) = (pair["from"].as_str().unwrap(), pair["to"].as_str().unwrap());
        assert!(to.starts_with(&format!("{from}.before-restore-")), "{to}");
        let name = Path::new(from).file_name().unwrap().to_str().unwrap();
        assert_eq!(fs::read_to_string(to).unwrap(), format!("old {name}"));
    }
    assert_eq!(fs::read_to_string(target.join("note")).unwrap(), "old note");
    assert!(fs::read(target.join("trinity.db")).unwrap() == now.database);
    for sidecar in ["trinity.db-wal", "trinity.db-shm", "trinity.db-journal"] {
        assert!(!target.join(sidecar).exists(), "{sidecar} would be taken for the restored database's own");
    }
    restore(&world, &["--to", &world.text("target"), "--force"]).exits(0);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1 + 3 + 5 + 3, "a second time, nothing is overwritten either");
}

#[test]
fn a_stale_journal_without_its_database_is_moved_aside_by_force() {
    let world = backed_up();
    fs::create_dir(world.path("target")).unwrap();
    fs::write(world.path("target/trinity.db-journal"), "stale").unwrap();
    restore(&world, &["--to", &world.text("target")]).exits(15);
    restore(&world, &["--to", &world.text("target"), "--force"]).exits(0);
    assert!(!world.path("target/trinity.db-journal").exists());
}

#[test]
fn a_database_that_a_process_holds_open_is_refused_with_its_pid_even_by_force() {
    let world = backed_up();
    fs::create_dir(world.path("target")).unwrap();
    for name in ["trinity.db", "trinity.db-wal"] {
        let path = world.path("target").join(name);
        fs::write(&path, "live").unwrap();
        let user = User::of(&path);
        let output = restore(&world, &["--to", &world.text("target"), "--force"]).exits(15);
        assert!(output.stderr.contains(&format!("process {}", user.0.id())), "{output:?}");
        drop(user);
        assert_eq!(fs::read_to_string(&path).unwrap(), "live");
        assert_eq!(fs::read_dir(world.path("target")).unwrap().count(), 1);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn only_the_named_source_is_restored() {
    let world = backed_up();
    let json = restore(&world, &["--only", "trinity.db", "--to", &world.text("target"), "--json"]).exits(0).json();
    assert_eq!(json["files"].as_array().unwrap().len(), 1);
    assert_eq!(fs::read_dir(world.path("target")).unwrap().count(), 1);
    assert!(fs::read(world.path("target/trinity.db")).unwrap() == world.sources().database);
}

#[test]
fn one_source_goes_to_standard_output_byte_for_byte_and_leaves_no_file() {
    let world = backed_up();
    let now = world.sources();
    let output = restore(&world, &["--only", ".env", "--to", "-"]).exits(0);
    assert!(output.stdout == now.environment, "{output:?}");
    let output = restore(&world, &["--only", "trinity.db", "--to", "-"]).exits(0);
    assert!(output.stdout == now.database);
    assert_eq!(fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(world.path("empty")).unwrap().count(), 0);
    restore(&world, &["--to", "-"]).exits(2);
    restore(&world, &["--to", "-", "--only", ".env", "--only", "trinity.db"]).exits(2);
}

#[test]
fn a_source_that_the_snapshot_does_not_have_is_2_and_the_others_are_named() {
    let world = backed_up();
    let output = restore(&world, &["--only", "trinty.db", "--to", &world.text("target")]).exits(2);
    assert!(output.stderr.contains("trinity.db"), "{output:?}");
    assert!(!world.path("target").exists());
}

#[test]
fn a_dry_run_writes_nothing_and_tells_the_size() {
    let world = backed_up();
    fs::create_dir(world.path("target")).unwrap();
    fs::write(world.path("target/.env"), "mine").unwrap();
    let before = tree(&world.path("target"));
    let json = restore(&world, &["--dry-run", "--json", "--to", &world.text("target")]).exits(0).json();
    assert!(tree(&world.path("target")) == before);
    assert_eq!(json["files"].as_array().unwrap().len(), 3);
    assert!(json["downloaded_bytes"].as_u64().unwrap() > 100_000);
    restore(&world, &["--dry-run"]).exits(0);
    assert_eq!(fs::read_dir(world.path("empty")).unwrap().count(), 0);
}

#[test]
fn a_snapshot_is_found_by_word_number_date_and_time() {
    let world = backed_up();
    let taken: Timestamp = world.record_json(1)["time"].as_str().unwrap().parse().unwrap();
    wait_until("the clock shows another second", || Timestamp::now().as_second() > taken.as_second());
    world.add_rows(1);
    world.backup();
    let time = |sequence| world.record_json(sequence)["time"].as_str().unwrap().to_owned();
    let chosen = |snapshot: &str| {
        restore(&world, &[snapshot, "--dry-run", "--json"]).exits(0).json()["sequence"].as_u64().unwrap()
    };
    assert_eq!(chosen("latest"), 2);
    assert_eq!(chosen("1"), 1);
    assert_eq!(chosen(&time(1)), 1, "the last at or before its own time");
    assert_eq!(chosen(&time(2)), 2);
    assert_eq!(chosen(&time(2)[..10]), 2, "a date means its end");
    assert_eq!(chosen("2099-12-31"), 2);
    restore(&world, &["1999-12-31", "--dry-run"]).exits(1).says("snapshots");
    restore(&world, &["9", "--dry-run"]).exits(1).says("9");
    restore(&world, &["yesterday", "--dry-run"]).exits(2).says("2026-11-23");
}

#[test]
fn modes_owners_and_times_come_back() {
    let world = World::ready();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::set_permissions(world.environment(), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::File::options().write(true).open(world.environment()).unwrap().set_modified(old).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(world.environment(), Some(1234), Some(2345)).unwrap();
        fs::set_permissions(world.environment(), fs::Permissions::from_mode(0o4751)).unwrap();
    }
    world.backup();
    world.restore("latest", "target").exits(0);
    let metadata = |path: PathBuf| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mode(), metadata.uid(), metadata.gid(), metadata.modified().unwrap())
    };
    assert_eq!(metadata(world.path("target/.env")), metadata(world.environment()));
    assert_eq!(metadata(world.path("target/.env")).3, old);
    assert_eq!(metadata(world.path("target/trinity.db")), metadata(world.database()));
}

#[test]
fn a_link_is_followed_when_read_and_restored_as_a_file_of_its_name() {
    let world = World::ready();
    fs::rename(world.environment(), world.path("app/real")).unwrap();
    symlink("real", world.environment()).unwrap();
    fs::rename(world.database(), world.path("app/real.db")).unwrap();
    symlink("real.db", world.database()).unwrap();
    let now = world.sources();
    world.backup();
    world.assert_restores(1, &now);
    world.restore("latest", "target").exits(0);
    for name in [".env", "trinity.db"] {
        assert!(world.path("target").join(name).symlink_metadata().unwrap().is_file(), "{name}");
    }
}

#[test]
fn a_link_at_the_target_is_moved_aside_and_what_it_leads_to_is_not_touched() {
    let world = backed_up();
    fs::write(world.path("precious"), "precious").unwrap();
    fs::create_dir(world.path("target")).unwrap();
    symlink(world.path("precious"), world.path("target/.env")).unwrap();
    restore(&world, &["--to", &world.text("target"), "--force"]).exits(0);
    assert_eq!(fs::read_to_string(world.path("precious")).unwrap(), "precious");
    assert!(world.path("target/.env").symlink_metadata().unwrap().is_file());
}

#[test]
fn names_from_the_configuration_become_file_names_whatever_is_in_them() {
    let world = World::ready();
    let strange = "a b'\"%?#;é-\u{1f30a}.db";
    let text = fs::read_to_string(world.config()).unwrap();
    let quoted = format!("[[database]]\nname = {strange:?}");
    fs::write(world.config(), text.replacen("[[database]]", &quoted, 1)).unwrap();
    world.backup();
    restore(&world, &["--to", &world.text("target")]).exits(0);
    assert!(fs::read(world.path("target").join(strange)).unwrap() == world.sources().database);
}

#[test]
fn a_name_that_could_leave_the_target_is_refused() {
    let world = World::ready();
    let text = fs::read_to_string(world.config()).unwrap();
    for name in ["../up", "/etc/passwd", "..", ".", "", "a/b"] {
        fs::write(world.config(), text.replacen("[[database]]", &format!("[[database]]\nname = {name:?}"), 1)).unwrap();
        world.sealift(&["backup"]).exits(2).says("name");
    }
}

#[test]
fn a_target_that_is_a_file_is_an_error_and_stays() {
    let world = backed_up();
    fs::write(world.path("target"), "mine").unwrap();
    restore(&world, &["--to", &world.text("target")]).exits(1).says("target");
    restore(&world, &["--to", &world.text("target"), "--force"]).exits(1);
    assert_eq!(fs::read_to_string(world.path("target")).unwrap(), "mine");
}

#[test]
fn an_existing_empty_target_and_a_missing_one_several_folders_down_both_do() {
    let world = backed_up();
    fs::create_dir(world.path("empty-target")).unwrap();
    for target in ["empty-target", "a/b/c"] {
        restore(&world, &["--to", &world.text(target)]).exits(0);
        assert_eq!(fs::read_dir(world.path(target)).unwrap().count(), 3, "the three files and nothing else");
    }
}

/// As a script does that starts the application on a fresh host, every time.
fn if_missing(world: &World, more: &[&str]) -> Output {
    let target = world.text("target");
    restore(world, &[&["--to", &target, "--if-missing", "--json"], more].concat())
}

fn names_of(output: &Output) -> Vec<String> {
    let json = output.json();
    let files = json["files"].as_array().unwrap().iter();
    files.map(|file| file["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn if_missing_restores_into_a_missing_or_empty_directory_and_then_changes_nothing() {
    for makes_it in [false, true] {
        let world = backed_up();
        let now = world.sources();
        if makes_it {
            fs::create_dir(world.path("target")).unwrap();
        }
        let restored = if_missing(&world, &[]).exits(0);
        assert_eq!(names_of(&restored), ["trinity.db", ".env", "sealift.toml"]);
        assert!(fs::read(world.path("target/trinity.db")).unwrap() == now.database);
        // The application writes on, and there is a newer snapshot.
        fs::write(world.path("target/.env"), "TOKEN=of the application\n").unwrap();
        world.add_rows(10);
        world.backup();
        let before = tree(&world.path("target"));
        let again = if_missing(&world, &[]).exits(0);
        assert_eq!((&again.json()["sequence"], names_of(&again).len()), (&serde_json::Value::Null, 0));
        assert!(tree(&world.path("target")) == before);
    }
}

/// A host must start with the data that it has, whatever is the matter with its backups.
#[test]
fn if_missing_asks_no_repository_where_the_files_are_there() {
    let world = backed_up();
    if_missing(&world, &[]).exits(0);
    let before = tree(&world.path("target"));
    fs::rename(world.path("repository"), world.path("elsewhere")).unwrap();
    if_missing(&world, &[]).exits(0);
    assert!(tree(&world.path("target")) == before);
    restore(&world, &["--to", &world.text("another"), "--if-missing"]).exits(10);
}

#[test]
fn if_missing_is_4_where_there_is_no_snapshot_yet_and_makes_nothing() {
    let world = World::ready();
    let output = if_missing(&world, &[]).exits(4);
    assert_eq!((&output.json()["sequence"], names_of(&output).len()), (&serde_json::Value::Null, 0));
    assert!(!world.path("target").exists());
    restore(&world, &["--to", &world.text("target")]).exits(1);
    world.backup();
    // A snapshot that is asked for and not there is another matter, and so is one that cannot be verified.
    if_missing(&world, &["7"]).exits(1);
    if_missing(&world, &["1999-12-31"]).exits(1);
    fs::write(world.record(1), "noise").unwrap();
    if_missing(&world, &[]).exits(13);
    assert!(!world.path("target").exists());
}

/// Without this an application would start with nothing where its backups were deleted.
#[test]
fn if_missing_is_no_4_on_a_machine_that_saw_a_snapshot() {
    let world = backed_up();
    let reader = world.other_host("reader");
    reader.sealift(&["snapshots"]).exits(0);
    fs::remove_file(world.record(1)).unwrap();
    if_missing(&world, &[]).exits(13);
    assert!(!world.path("target").exists());
    // On a machine that never saw one, or once a person accepted that.
    world.restore("latest", "target").exits(1);
    if_missing(&world, &["--accept-rollback"]).exits(4);
    if_missing(&world, &[]).exits(4);
}

#[test]
fn if_missing_with_only_goes_by_the_named_files() {
    let world = backed_up();
    restore(&world, &["--to", &world.text("target"), "--only", ".env"]).exits(0);
    let before = tree(&world.path("target"));
    assert!(names_of(&if_missing(&world, &["--only", ".env"]).exits(0)).is_empty());
    // One of two is missing, so it restores, and what is in the way is refused as ever.
    if_missing(&world, &["--only", ".env", "--only", "trinity.db"]).exits(15);
    assert!(tree(&world.path("target")) == before);
}

#[test]
fn if_missing_goes_with_neither_force_nor_a_dry_run_nor_standard_output() {
    let world = backed_up();
    for flag in ["--force", "--dry-run"] {
        if_missing(&world, &[flag]).exits(2);
    }
    restore(&world, &["--to", "-", "--only", ".env", "--if-missing"]).exits(2);
    assert!(!world.path("target").exists());
}
