//! Recipients of every kind: age and SSH keys, from files, standard input and the environment, with and without passphrases.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret;

use crate::support::world::{Output, World};

/// A repository for these recipients, with one snapshot.
fn sealed_for(flags: &[&str]) -> World {
    let world = World::new();
    let (database, file) = (world.text("app/trinity.db"), world.text("app/.env"));
    world.sealift(&[&["init", "--database", &database, "--file", &file], flags].concat()).exits(0);
    world.sealift(&["backup"]).exits(0);
    world
}

fn generate(world: &World, name: &str) -> age::x25519::Identity {
    let key = age::x25519::Identity::generate();
    fs::write(world.path(name), format!("{}\n", key.to_string().expose_secret())).unwrap();
    key
}

fn restore_with(world: &World, flags: &[&str]) -> Output {
    let target = world.text("target");
    world.other_host("reader").sealift(&[&["restore", "--to", &target][..], flags].concat())
}

fn assert_restored(world: &World) {
    assert!(fs::read(world.path("target/trinity.db")).unwrap() == world.sources().database);
    fs::remove_dir_all(world.path("target")).unwrap();
}

#[test]
fn every_recipient_of_a_recipients_file_can_restore() {
    let keys = World::new();
    let public = ["a", "b"].map(|name| generate(&keys, name).to_public().to_string());
    fs::write(keys.path("list"), format!("# the operators\n\n{}\n{}\n", public[0], public[1])).unwrap();
    let third = generate(&keys, "c").to_public().to_string();
    let world = sealed_for(&["-R", &keys.text("list"), "-r", &third]);
    let config = fs::read_to_string(world.config()).unwrap();
    assert!(public.iter().chain([&third]).all(|key| config.contains(key.as_str())), "{config}");
    for name in ["a", "b", "c"] {
        restore_with(&world, &["-i", &keys.text(name)]).exits(0);
        assert_restored(&world);
    }
}

#[test]
fn an_ssh_key_can_restore() {
    let keys = World::new();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f"])
        .arg(keys.path("id"))
        .status();
    assert!(made.expect("ssh-keygen").success());
    let public = fs::read_to_string(keys.path("id.pub")).unwrap();
    let world = sealed_for(&["-r", public.trim()]);
    restore_with(&world, &["-i", &keys.text("id")]).exits(0);
    assert_restored(&world);
    let other =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(keys.path("other")).status();
    assert!(other.expect("ssh-keygen").success());
    restore_with(&world, &["-i", &keys.text("other")]).exits(12);
    assert!(!world.path("target").exists());
}

#[test]
fn of_several_identities_one_that_opens_is_enough() {
    let world = sealed_for(&["--new-identity", "operator.key", "--no-passphrase"]);
    let key = world.text("empty/operator.key");
    generate(&world, "other");
    restore_with(&world, &["-i", &world.text("other")]).exits(12);
    restore_with(&world, &["-i", &world.text("other"), "-i", &key]).exits(0);
    assert_restored(&world);
}

#[test]
fn an_identity_may_come_from_standard_input_the_environment_or_a_variable_with_its_path() {
    let world = World::ready();
    world.backup();
    let key = fs::read(world.identity()).unwrap();
    let target = world.text("target");

    let mut command = world.other_host("reader").command(&["restore", "-i", "-", "--to", &target]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&key).unwrap();
    assert!(child.wait().unwrap().success());
    assert_restored(&world);

    let mut by_value = world.other_host("by value");
    by_value.set_variable("SEALIFT_IDENTITY", std::str::from_utf8(&key).unwrap());
    by_value.sealift(&["restore", "--to", &target]).exits(0);
    assert_restored(&world);

    let mut by_path = world.other_host("by path");
    by_path.set_variable("SEALIFT_IDENTITY_FILE", &world.text("operator.key"));
    by_path.sealift(&["restore", "--to", &target]).exits(0);
    assert_restored(&world);

    world.other_host("without").sealift(&["restore", "--to", &target]).exits(2).says("SEALIFT_IDENTITY");
}

#[test]
fn a_file_that_holds_no_identity_is_2() {
    let world = World::ready();
    world.backup();
    for content in ["", "# only a comment\n", "garbage\n", "-----BEGIN OPENSSH PRIVATE KEY-----\ngarbage\n"] {
        fs::write(world.path("bad.key"), content).unwrap();
        restore_with(&world, &["-i", &world.text("bad.key")]).exits(2).says("bad.key");
    }
}

/// Runs a command at a terminal, answering each prompt for a passphrase in turn.
const TERMINAL: &str = r"
import os, pty, sys, termios
answers = sys.argv[1].split(',')
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said = b''
answered = 0
while True:
    try:
        chunk = os.read(terminal, 4096)
    except OSError:
        break
    if not chunk:
        break
    said += chunk
    prompts = said.count(b'assphrase for') + said.count(b'ew passphrase:') + said.count(b'nce more:')
    while answered < prompts and answered < len(answers):
        # The prompt comes before the echo goes; a person is slower than that.
        while termios.tcgetattr(terminal)[3] & termios.ECHO:
            os.sched_yield()
        os.write(terminal, answers[answered].encode() + b'\n')
        answered += 1
sys.stdout.write(said.decode(errors='replace'))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

fn at_a_terminal(world: &World, answers: &str, arguments: &[&str]) -> Output {
    let plain = world.command(arguments);
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, answers]).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().current_dir(world.path("empty")).stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    Output::of(&mut command)
}

#[test]
fn a_new_identity_is_protected_by_a_passphrase_asked_for_twice_and_restores_with_it() {
    let world = World::new();
    let (database, file, key) = (world.text("app/trinity.db"), world.text("app/.env"), world.text("operator.key"));
    let init = ["init", "--database", &database, "--file", &file, "--new-identity", &key];
    world.sealift(&init).exits(2).says("--no-passphrase");
    at_a_terminal(&world, "one,other", &init).exits(2).says("differ");
    assert!(!world.path("repository").exists() && !world.identity().exists());
    let output = at_a_terminal(&world, "correct horse,correct horse", &init).exits(0);
    assert!(!output.all().contains("correct horse"), "no echo");
    let file = fs::read(world.identity()).unwrap();
    assert!(file.starts_with(b"age-encryption.org/v1\n-> scrypt "), "as age -p writes it");
    world.sealift(&["backup"]).exits(0);

    let target = world.text("target");
    let restore = ["restore", "-i", &key, "--to", &target];
    let reader = world.other_host("reader");
    reader.sealift(&restore).exits(12).says("terminal");
    at_a_terminal(&reader, "wrong", &restore).exits(12).says("passphrase");
    assert!(!world.path("target").exists());
    at_a_terminal(&reader, "correct horse", &restore).exits(0);
    assert_restored(&world);
}

#[test]
fn an_ssh_key_with_a_passphrase_asks_for_it_once() {
    let keys = World::new();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "battery", "-C", "", "-f"])
        .arg(keys.path("id"))
        .status();
    assert!(made.expect("ssh-keygen").success());
    let world = sealed_for(&["-R", &keys.text("id.pub")]);
    let (key, target) = (keys.text("id"), world.text("target"));
    let restore = ["restore", "-i", &key, "--to", &target];
    let reader = world.other_host("reader");
    reader.sealift(&restore).exits(12).says("terminal");
    at_a_terminal(&reader, "wrong", &restore).exits(12).says("passphrase for");
    // However many wrapped keys there are, for however many recipients.
    let [a, b] = ["a", "b"].map(|name| generate(&world, name).to_public().to_string());
    let rotate = ["keys", "rotate", "-r", &a, "-r", &b, "-i", &key];
    assert_eq!(at_a_terminal(&reader, "battery", &rotate).exits(3).all().matches("assphrase for").count(), 1);
    assert_eq!(at_a_terminal(&reader, "battery", &restore).exits(0).all().matches("assphrase for").count(), 1);
    assert_restored(&world);
}

#[test]
fn a_new_identity_does_not_overwrite_a_file() {
    let world = World::new();
    fs::write(world.identity(), "precious").unwrap();
    world.init().exits(15);
    assert_eq!(fs::read_to_string(world.identity()).unwrap(), "precious");
}

#[test]
fn init_goes_on_where_it_was_interrupted() {
    let world = World::new();
    fs::write(world.identity(), "in the way").unwrap();
    world.init().exits(15);
    fs::remove_file(world.identity()).unwrap();
    let json = world.init().exits(0).json();
    let now = world.sources();
    let sequence = world.backup();
    world.assert_restores(sequence, &now);
    assert_eq!(json["epoch"], 1);
}
