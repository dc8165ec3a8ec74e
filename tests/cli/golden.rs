//! What each command says of each thing that can happen to a repository: exit code and finding codes, compared with a table in
//! `golden/table.txt`. Then the way out that the messages name is taken, and everything is 0, on a fresh machine too.
//!
//! To write the table anew: `SEALIFT_TEST_WRITE_GOLDEN=1 cargo test --test cli golden`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use sealift::crypto::{DataIdentity, Recipient, Signer, sha256};
use serde_json::{Value, json};

use crate::support::s3s::{Date, S3s};
use crate::support::world::{Output, World, copy_tree};

/// The commands of the table, in this order: what only reads first, each on a machine of its own that has looked before.
const COMMANDS: [&str; 7] = ["status", "snapshots", "restore latest", "restore 7", "check", "retain --apply", "backup"];

/// The number of the newest snapshot.
const NEWEST: u64 = 8;

/// A repository with some snapshots, its host, and machines that have looked at it.
struct Scene {
    host: World,
    /// The repository as files.
    folder: PathBuf,
}

impl Scene {
    fn new(host: World, folder: PathBuf) -> Self {
        let scene = Self { host, folder };
        for _ in 0..NEWEST {
            scene.host.add_rows(5);
            scene.host.backup();
        }
        for command in COMMANDS {
            scene.reader(command).sealift(&["snapshots", "--json"]).exits(0);
        }
        scene
    }

    fn local() -> Self {
        let host = World::ready();
        let folder = host.path("repository");
        Self::new(host, folder)
    }

    /// The machine that runs this command.
    fn reader(&self, command: &str) -> World {
        self.host.other_host(&command.replace(' ', "-"))
    }

    fn run_on(&self, machine: &World, command: &str) -> Output {
        self.run_with(machine, command, &[])
    }

    fn run_with(&self, machine: &World, command: &str, flags: &[&str]) -> Output {
        let identity = self.host.text("operator.key");
        let to = (0..).map(|n| format!("to-{n}")).find(|to| !self.host.path(to).exists()).unwrap();
        let to = self.host.text(&to);
        let arguments = match command {
            "restore latest" => vec!["restore", "latest", "-i", &identity, "--to", &to],
            "restore 7" => vec!["restore", "7", "-i", &identity, "--to", &to],
            "retain --apply" => vec!["retain", "--apply", "--keep-last", "6"],
            one => vec![one],
        };
        if command == "backup" {
            machine.an_hour_later();
        }
        machine.sealift(&[&arguments[..], flags, &["--json"]].concat())
    }

    fn run(&self, command: &str) -> Output {
        if command == "backup" {
            return self.run_on(&self.host, command);
        }
        self.run_on(&self.reader(command), command)
    }

    /// Every command is 0 where it was run before, and on a machine that was never here.
    fn assert_all_well(&self, host: &World) {
        self.assert_well_by(host, &[]);
    }

    /// The same, with `flags` for the machine that was never here.
    fn assert_well_by(&self, host: &World, flags: &[&str]) {
        for command in COMMANDS {
            let machine = if command == "backup" { host } else { &self.reader(command) };
            let output = self.run_on(machine, command);
            assert_eq!(output.code, 0, "{command}: {}", output.all());
        }
        let fresh = self.host.other_host("fresh");
        for command in COMMANDS.into_iter().filter(|command| *command != "backup") {
            let output = self.run_with(&fresh, command, flags);
            assert_eq!(output.code, 0, "{command} on a fresh machine: {}", output.all());
        }
    }

    /// The record after `before`, as another signer's host would write it.
    fn next_record(&self, before: u64) -> Value {
        let mut record = self.host.record_json(before);
        record["sequence"] = json!(before + 1);
        record["previous"] = json!(sha256(&fs::read(self.host.record(before)).unwrap()));
        record["earlier"] = json!([[1, before]]);
        record["host"] = json!("elsewhere");
        record
    }

    fn ignore(&self, host: &World, sequence: u64) {
        host.sealift(&["retain", "--ignore", &sequence.to_string(), "--apply", "--json"]).exits(0);
        host.sealift(&["backup", "--json"]).exits(0);
    }

    /// A fresh host takes over and writes a snapshot; the fingerprint of its key.
    fn take_over(&self) -> (World, String) {
        let new = self.host.other_host("new");
        let (database, identity) = (self.host.database().display().to_string(), self.host.text("operator.key"));
        let recipient = recipient_of(&self.host);
        let arguments = [
            "init",
            "--take-over",
            "--identity",
            &identity,
            "-r",
            &recipient,
            "--yes",
            "--database",
            &database,
            "--json",
        ];
        let fingerprint = new.sealift(&arguments).exits(0).json()["fingerprint"].as_str().unwrap().to_owned();
        new.sealift(&["backup", "--json"]).exits(0);
        (new, fingerprint)
    }

    fn accept(&self, fingerprint: &str) {
        for command in COMMANDS.into_iter().filter(|command| *command != "backup") {
            self.reader(command).sealift(&["snapshots", "--accept-signer", fingerprint, "--json"]).exits(0);
        }
    }
}

fn recipient_of(world: &World) -> String {
    let text = fs::read_to_string(world.identity()).unwrap();
    text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
}

fn stranger() -> Signer {
    Signer::generate().unwrap()
}

/// A key file for a recipient of no use, with another data key.
fn foreign_key_file() -> Vec<u8> {
    let identity = DataIdentity::generate();
    let recipient = Recipient::parse(&DataIdentity::generate().recipient().to_string()).unwrap();
    identity.wrap(&[], &[recipient]).unwrap().bytes().to_vec()
}

/// The exit code, and the codes of what was found: of `check` also the kinds of its problems.
fn cell(output: &Output) -> String {
    let json = output.json();
    let mut codes: Vec<String> = Vec::new();
    for (list, member) in [("warnings", "code"), ("problems", "kind")] {
        let found = json[list].as_array().into_iter().flatten();
        codes.extend(found.map(|found| found[member].as_str().unwrap().to_owned()));
    }
    codes.retain(|code| code != "single-recipient" && code != "writer-can-delete");
    codes.dedup();
    format!("{} {}", output.code, codes.join(" ")).trim_end().to_owned()
}

struct Table(String);

impl Table {
    fn case(&mut self, name: &str, scene: &Scene) {
        for command in COMMANDS {
            let output = scene.run(command);
            writeln!(self.0, "{name:<24} {command:<15} {}", cell(&output)).unwrap();
        }
    }
}

/// Compares with the golden table, in which a case has a line for each command.
fn compare(table: &Table) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden/table.txt");
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let name = |line: &str| line.chars().take(24).collect::<String>();
    let names: Vec<String> = table.0.lines().map(name).collect();
    if std::env::var_os("SEALIFT_TEST_WRITE_GOLDEN").is_some() {
        let others = golden.lines().filter(|line| !names.contains(&name(line)));
        let mut lines: Vec<&str> = others.chain(table.0.lines()).collect();
        lines.sort_by_key(|line| name(line));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        return;
    }
    let expected: Vec<&str> = golden.lines().filter(|line| names.contains(&name(line))).collect();
    let found: Vec<&str> = table.0.lines().collect();
    assert_eq!(found, expected);
}

/// Runs one case: what happens, the table, the way out.
fn case(name: &str, happens: impl FnOnce(&Scene), way_out: impl FnOnce(&Scene)) {
    let scene = Scene::local();
    let mut table = Table(String::new());
    happens(&scene);
    table.case(name, &scene);
    compare(&table);
    way_out(&scene);
    scene.assert_all_well(&scene.host);
}

#[test]
fn nothing_happened() {
    case("nothing", |_| {}, |_| {});
}

#[test]
fn a_planted_record() {
    case(
        "planted record",
        |scene| scene.host.write_record(NEWEST + 1, &scene.next_record(NEWEST), &stranger()),
        |scene| scene.ignore(&scene.host, NEWEST + 1),
    );
}

#[test]
fn a_planted_key_file() {
    let plant = |scene: &Scene| fs::write(scene.folder.join("keys/1/2.age"), foreign_key_file()).unwrap();
    case("planted key file", plant, |_| {});
}

#[test]
fn all_key_files_deleted() {
    let delete = |scene: &Scene| fs::remove_dir_all(scene.folder.join("keys")).unwrap();
    // The host restores them by its next backup, which was part of the table.
    case("key files deleted", delete, |_| {});
}

#[test]
fn a_key_file_replaced() {
    let replace = |scene: &Scene| fs::write(scene.folder.join("keys/1/1.age"), foreign_key_file()).unwrap();
    case("key file replaced", replace, |_| {});
}

#[test]
fn a_repository_rolled_back() {
    let roll_back = |scene: &Scene| fs::remove_file(scene.host.record(NEWEST)).unwrap();
    case("rolled back", roll_back, |scene| drop(scene.host.sealift(&["backup", "--adopt", "--json"]).exits(0)));
}

#[test]
fn a_cloned_host() {
    let clone = |scene: &Scene| {
        copy_tree(&scene.host.state(), &scene.host.path("clone-state"));
        fs::copy(scene.host.config(), scene.host.path("clone.toml")).unwrap();
        scene.host.other_host("clone").sealift(&["backup", "--json"]).exits(0);
    };
    case("cloned host", clone, |scene| drop(scene.host.sealift(&["backup", "--adopt", "--json"]).exits(0)));
}

#[test]
fn a_machine_image_restored() {
    let restore = |scene: &Scene| {
        copy_tree(&scene.host.state(), &scene.host.path("image"));
        scene.host.backup();
        fs::remove_dir_all(scene.host.state()).unwrap();
        copy_tree(&scene.host.path("image"), &scene.host.state());
    };
    case("machine image restored", restore, |scene| {
        drop(scene.host.sealift(&["backup", "--adopt", "--json"]).exits(0));
    });
}

#[test]
fn a_true_claim_of_a_takeover() {
    let scene = Scene::local();
    let (new, fingerprint) = scene.take_over();
    let mut table = Table(String::new());
    table.case("takeover claimed, true", &scene);
    compare(&table);
    scene.accept(&fingerprint);
    scene.assert_well_by(&new, &["--signer", &new.signer().public().to_string()]);
    // The old host stays stopped.
    scene.host.sealift(&["backup", "--json"]).exits(16);
}

#[test]
fn a_false_claim_of_a_takeover() {
    let forge = |scene: &Scene| {
        let (mut record, forger) = (scene.next_record(NEWEST), stranger());
        record["takeovers"] = json!([{ "from": scene.host.signer().public(), "last": NEWEST, "to": forger.public() }]);
        scene.host.write_record(NEWEST + 1, &record, &forger);
    };
    case("takeover claimed, false", forge, |scene| scene.ignore(&scene.host, NEWEST + 1));
}

#[test]
fn an_old_host_that_is_awake_after_a_takeover() {
    let scene = Scene::local();
    let (new, fingerprint) = scene.take_over();
    scene.accept(&fingerprint);
    let mut late = scene.next_record(NEWEST + 1);
    late.as_object_mut().unwrap().remove("takeovers");
    scene.host.write_record(NEWEST + 2, &late, &scene.host.signer());
    let mut table = Table(String::new());
    for command in COMMANDS {
        let machine = if command == "backup" { &new } else { &scene.reader(command) };
        let output = scene.run_on(machine, command);
        writeln!(table.0, "{:<24} {command:<15} {}", "old host awake", cell(&output)).unwrap();
    }
    compare(&table);
    scene.ignore(&new, NEWEST + 2);
    // Each machine that had the record in its way decides for itself.
    scene.assert_well_by(&new, &["--signer", &new.signer().public().to_string()]);
}

#[test]
fn a_newer_format() {
    let upgrade = |scene: &Scene| {
        let mut record = scene.next_record(NEWEST);
        record["format"] = json!(2);
        scene.host.write_record(NEWEST + 1, &record, &scene.host.signer());
    };
    // An older snapshot is named by its number; the upgraded program itself is not at hand here.
    case("newer format", upgrade, |scene| fs::remove_file(scene.host.record(NEWEST + 1)).unwrap());
}

#[test]
fn a_damaged_record() {
    let damage = |scene: &Scene| {
        let bytes = fs::read(scene.host.record(1)).unwrap();
        fs::write(scene.host.record(1), &bytes[..bytes.len() - 9]).unwrap();
    };
    case("damaged record", damage, |scene| scene.ignore(&scene.host, 1));
}

#[test]
fn a_damaged_newest_record() {
    let damage = |scene: &Scene| fs::write(scene.host.record(NEWEST), "garbage").unwrap();
    case("damaged newest record", damage, |scene| {
        scene.host.sealift(&["backup", "--adopt", "--json"]).exits(3);
        scene.ignore(&scene.host, NEWEST);
    });
}

#[test]
fn deleted_records() {
    case("deleted records", |scene| fs::remove_file(scene.host.record(1)).unwrap(), |_| {});
}

#[test]
fn a_descriptor_replaced() {
    let replace = |scene: &Scene| {
        let path = scene.folder.join("repository.json");
        let text = fs::read_to_string(&path).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json["signer"] = json!(stranger().public());
        fs::write(&path, json.to_string() + "\n").unwrap();
    };
    // The host restores it by its next backup, which was part of the table.
    case("repository.json replaced", replace, |_| {});
}

#[test]
fn another_repository_under_a_known_url() {
    let scene = Scene::local();
    fs::rename(&scene.folder, scene.host.path("moved")).unwrap();
    let other = scene.host.other_host("other");
    let (database, key) = (scene.host.database().display().to_string(), scene.host.text("other.key"));
    let init = ["init", "--database", &database, "--new-identity", &key, "--no-passphrase", "--json"];
    let fingerprint = other.sealift(&init).exits(0).json()["fingerprint"].as_str().unwrap().to_owned();
    for _ in 0..NEWEST {
        other.sealift(&["backup", "--json"]).exits(0);
    }
    let mut table = Table(String::new());
    table.case("another repository", &scene);
    compare(&table);
    // It is the right one, says a person on one machine; on the others it is moved away again.
    scene.reader("status").sealift(&["snapshots", "--accept-signer", &fingerprint, "--json"]).exits(0);
    scene.reader("status").sealift(&["status", "--json"]).exits(0);
    fs::remove_dir_all(&scene.folder).unwrap();
    fs::rename(scene.host.path("moved"), &scene.folder).unwrap();
    let first = scene.host.signer().public().fingerprint();
    scene.reader("status").sealift(&["snapshots", "--accept-signer", &first, "--json"]).exits(0);
    scene.assert_all_well(&scene.host);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_listing() {
    let server = S3s::start().await;
    let scene = Scene::new(World::in_bucket(&server), server.bucket_folder().join("trinity"));
    server.hide_from_listings(Some("snapshots/0000000001.record"));
    let mut table = Table(String::new());
    table.case("incomplete listing", &scene);
    compare(&table);
    server.hide_from_listings(None);
    scene.assert_all_well(&scene.host);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_record_that_the_listing_lacks() {
    let server = S3s::start().await;
    let scene = Scene::new(World::in_bucket(&server), server.bucket_folder().join("trinity"));
    server.hide_from_listings(Some("snapshots/0000000008.record"));
    let mut table = Table(String::new());
    table.case("newest not listed", &scene);
    compare(&table);
    server.hide_from_listings(None);
    scene.assert_all_well(&scene.host);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_ten_minutes_apart() {
    let server = S3s::start().await;
    let scene = Scene::new(World::in_bucket(&server), server.bucket_folder().join("trinity"));
    server.tell_time(Date::Off(jiff::SignedDuration::from_mins(10)));
    let mut table = Table(String::new());
    table.case("clocks off", &scene);
    compare(&table);
    server.tell_time(Date::Right);
    scene.assert_all_well(&scene.host);
}
