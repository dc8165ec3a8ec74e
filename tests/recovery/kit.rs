//! The recovery kit: the commands on its page work as they stand there, and it makes good for keys that the bucket lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::live::have;
use crate::script::{self, TOOLS};
use crate::support::Server;
use crate::support::minio::Minio;
use crate::support::world::{Output, World, copy_tree, tree};

fn make_kit(world: &World, name: &str) -> Output {
    world.sealift(&["recovery-kit", &world.text(name), "--json"])
}

/// Everything in the `sh` blocks of a page.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("an end"));
    blocks.collect()
}

/// Runs the page of the kit in the kit's own folder, as somebody who has nothing else but the private key.
#[track_caller]
fn run_page(world: &World, kit: &str) {
    let folder = world.path(kit);
    fs::copy(world.identity(), folder.join("operator.key")).unwrap();
    let programs = world.path("programs");
    fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sealift"), programs.join("sealift")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let script = commands(&fs::read_to_string(folder.join("KIT.md")).unwrap());
    assert!(script.contains("sealift restore ") && script.contains("python3 recover-"), "{script}");
    let mut command = Command::new("bash");
    command.args(["-euxc", &script]).current_dir(&folder).env_clear();
    command.env("PATH", path).env("HOME", world.path("empty")).env("SEALIFT_STATE_DIR", world.path("reader-state"));
    command.envs(world.variables().iter().filter(|(name, _)| name.contains("KEY")).map(|(name, value)| (name, value)));
    let output = script::run_command(&mut command).exits(0);
    assert!(!output.all().contains("unpinned"), "{output:?}");
    for restored in ["restored", "restored-by-script"] {
        assert!(fs::read(folder.join(restored).join("trinity.db")).unwrap() == world.sources().database, "{restored}");
    }
}

#[test]
fn the_commands_of_a_kit_restore_from_a_directory() {
    if have(&TOOLS) {
        let world = World::ready();
        world.backup();
        let json = make_kit(&world, "kit").exits(0).json();
        assert_eq!(json["keys"], serde_json::json!(["keys/1/1.age"]));
        assert_eq!(json["pinned"], true, "the host knows its own signer");
        run_page(&world, "kit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_a_kit_restore_from_minio_with_an_ordinary_s3_client() {
    let Some(server) = Minio::start().await else { return };
    if have(&TOOLS) && have(&["rclone"]) {
        let world = World::in_bucket(&server);
        world.backup();
        world.add_rows(30);
        world.backup();
        make_kit(&world, "kit").exits(0);
        let page = fs::read_to_string(world.path("kit/KIT.md")).unwrap();
        assert!(page.contains(server.endpoint()) && !page.contains(server.secret_access_key()), "{page}");
        run_page(&world, "kit");
        // What was fetched holds a script of its own, which does the same.
        let (copy, key) = (world.path("kit/repository"), world.text("operator.key"));
        script::run("restore", &copy, &["1", "-i", &key, "--to", &world.text("older")]).exits(0);
        world.restore("1", "older-with").exits(0);
        let bytes = |folder: &str| fs::read(world.path(folder).join("trinity.db")).unwrap();
        assert!(bytes("older") == bytes("older-with") && bytes("older") != world.sources().database);
    }
}

#[test]
fn keys_that_the_repository_lost_come_back_from_the_kit() {
    if have(&TOOLS) {
        let world = World::ready();
        world.backup();
        make_kit(&world, "kit").exits(0);
        fs::remove_dir_all(world.path("repository/keys")).unwrap();
        let arguments = ["-i", &world.text("operator.key"), "--to", &world.text("out")];
        script::run("restore", &world.path("repository"), &arguments).exits(13).says("no wrapped key");
        copy_tree(&world.path("kit/keys"), &world.path("repository"));
        run_page(&world, "kit");
        fs::remove_dir_all(world.path("repository/keys")).unwrap();
        let page = fs::read_to_string(world.path("kit/KIT.md")).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("$ sealift keys restore")).expect("a command");
        let mut command = Command::new("bash");
        command.args(["-ec", &format!("'{}' keys restore{line}", env!("CARGO_BIN_EXE_sealift"))]);
        command.current_dir(world.path("kit")).env("SEALIFT_STATE_DIR", world.path("another reader"));
        script::run_command(&mut command).exits(0);
        assert!(world.path("repository/keys/1/1.age").exists());
        world.restore("latest", "again").exits(0);
    }
}

#[test]
fn the_host_adds_keys_that_the_repository_lost_but_none_that_a_rotation_replaced() {
    let world = World::ready();
    world.backup();
    let keys = |kit: &str| make_kit(&world, kit).exits(0).json()["keys"].clone();
    let key = fs::read(world.path("repository/keys/1/1.age")).unwrap();
    fs::remove_dir_all(world.path("repository/keys")).unwrap();
    assert_eq!(keys("from the state"), serde_json::json!(["keys/1/1.age"]));
    assert_eq!(fs::read(world.path("from the state/keys/1/1.age")).unwrap(), key);
    let reader = world.other_host("reader");
    make_kit(&reader, "without").exits(3).says("keys-missing");
    fs::create_dir_all(world.path("repository/keys/1")).unwrap();
    let next = age::encrypt(&age::x25519::Identity::generate().to_public(), b"for the next operator").unwrap();
    fs::write(world.path("repository/keys/1/2.age"), next).unwrap();
    assert_eq!(keys("rotated"), serde_json::json!(["keys/1/2.age"]));
}

#[test]
fn a_kit_is_for_its_owner_alone_and_holds_no_secret() {
    let world = World::ready();
    world.set_environment("TOKEN=very-much-a-secret\n");
    world.backup();
    make_kit(&world, "deep/kit").exits(0);
    let kit = tree(&world.path("deep/kit"));
    assert!(kit.len() > 6, "{:?}", kit.keys());
    for (path, (mode, _, bytes)) in kit {
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("very-much-a-secret"), "{}", path.display());
        assert!(!text.contains("AGE-SECRET-KEY-1Q"), "{}", path.display());
        assert!(!text.contains("OPENSSH PRIVATE KEY"), "{}", path.display());
    }
    assert_eq!(fs::metadata(world.path("deep/kit")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_full_directory_is_refused_and_an_empty_one_is_taken() {
    let world = World::ready();
    fs::create_dir(world.path("kit")).unwrap();
    make_kit(&world, "kit").exits(0);
    let before = tree(&world.path("kit"));
    make_kit(&world, "kit").exits(15).says("not empty");
    assert!(tree(&world.path("kit")) == before);
}

/// Elsewhere than on the host, nothing but what is given says who signs.
#[test]
fn a_kit_says_whether_its_signer_is_proved() {
    let world = World::ready();
    world.backup();
    let reader = world.other_host("reader");
    let json = make_kit(&reader, "kit").exits(0).json();
    assert_eq!(json["pinned"], false);
    assert!(fs::read_to_string(world.path("kit/KIT.md")).unwrap().contains("own word"));
    let flags = ["recovery-kit", &world.text("pinned"), "-i", &world.text("operator.key"), "--json"];
    assert_eq!(reader.sealift(&flags).exits(0).json()["pinned"], true);
    assert!(!fs::read_to_string(world.path("pinned/KIT.md")).unwrap().contains("own word"));
    let flags = ["recovery-kit", &world.text("other"), "--signer", &signer_of_a_stranger(&world), "--json"];
    world.other_host("misled").sealift(&flags).exits(13);
    assert!(!world.path("other").exists());
}

/// In a file, as a kit holds it.
fn signer_of_a_stranger(world: &World) -> String {
    let signer = sealift::crypto::Signer::generate().unwrap().public();
    fs::write(world.path("stranger.pub"), format!("{signer}\n")).unwrap();
    world.text("stranger.pub")
}

#[test]
fn help_names_the_hash_of_the_script_that_a_new_repository_holds() {
    let world = World::ready();
    let script = script::in_repository(&world.path("repository"));
    let digest = sealift::crypto::sha256(&fs::read(&script).unwrap()).to_string();
    assert!(Path::new(&script).file_name().unwrap().to_str().unwrap().contains(&digest));
    world.sealift(&["recovery-kit", "--help"]).exits(0).says(&digest);
    let text = fs::read_to_string(world.path("repository/RECOVERY.txt")).unwrap();
    assert!(text.contains(&digest), "{text}");
}

#[test]
fn a_script_that_lies_there_already_and_is_another_one_stops_init() {
    let world = World::new();
    world.init().exits(0);
    let name = script::in_repository(&world.path("repository")).file_name().unwrap().to_owned();
    let planted = World::new();
    fs::create_dir_all(planted.path("repository")).unwrap();
    fs::write(planted.path("repository").join(name), "print('give me your key')\n").unwrap();
    planted.init().exits(15).says("recover-");
}
