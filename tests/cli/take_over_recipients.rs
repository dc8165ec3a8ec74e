//! A takeover decides whom the new host encrypts to: -r says it, or a person at a terminal.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::keys::{keys, person};
use crate::keys_replaced::forge;
use crate::support::world::{Output, World, tree};
use crate::take_over::{a_host_with_a_past, own, signer_of, take_over, takes_over};

#[test]
fn other_recipients_are_named_with_r_and_nothing_of_the_identity_stays_on_the_host() {
    let world = World::ready();
    world.backup();
    let other = World::ready();
    let text = fs::read_to_string(other.identity()).unwrap();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    let fresh = world.other_host("fresh");
    let report = take_over(&fresh, &["--yes", "-r", &recipient]).exits(0).json();
    assert_eq!(report["recipients"], json!([recipient]));
    fresh.backup();
    let restore = |identity: &str, snapshot: &str| {
        let signer = signer_of(&report);
        let reader = world.other_host("reader");
        reader.sealift(&["restore", snapshot, "-i", identity, "--dry-run", "--signer", &signer]).code
    };
    let (alice, bob) = (world.text("operator.key"), other.text("operator.key"));
    assert_eq!([restore(&alice, "1"), restore(&alice, "2"), restore(&bob, "1"), restore(&bob, "2")], [0, 12, 12, 0]);
    let secret = fs::read_to_string(world.identity()).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned();
    for (path, (_, _, bytes)) in tree(&fresh.state()) {
        let found = bytes.windows(15).any(|window| window == &secret.as_bytes()[..15]);
        assert!(!found, "{} holds a private key", path.display());
    }
}

/// The key file that the identity opens decides nothing by itself, whatever else lies there.
#[test]
fn the_recipients_are_those_of_r_whatever_key_files_name_or_lie_there() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let planted = person(&world, "planted");
    forge(&world, 2, "operator", &["operator", "planted"], &format!("# recipient: {planted}\n"));
    fs::write(world.path("repository/keys/1/9.age"), b"noise").unwrap();
    let fresh = world.other_host("fresh");
    assert_eq!(takes_over(&fresh)["recipients"], json!([own(&world)]));
    let output = fresh.sealift(&["backup", "--json"]).exits(0);
    assert_eq!(output.warnings(), ["key-files-not-kept", "single-recipient"], "{output:?}");
    let opens = |name: &str| {
        let (key, signer) = (world.text(&format!("{name}.key")), fresh.signer().public().to_string());
        world.other_host("reader").sealift(&["restore", "3", "-i", &key, "--dry-run", "--signer", &signer]).code
    };
    assert_eq!([opens("operator"), opens("planted")], [0, 12]);
}

#[test]
fn a_configuration_that_is_changed_after_a_takeover_is_a_warning_and_a_rebase_wants_the_set_named() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let fresh = world.other_host("fresh");
    takes_over(&fresh);
    fresh.backup();
    let config = fs::read_to_string(fresh.config()).unwrap();
    let other = age::x25519::Identity::generate().to_public().to_string();
    fs::write(fresh.config(), config.replace(&own(&world), &other)).unwrap();
    fresh.an_hour_later();
    let output = fresh.sealift(&["backup", "--json"]).exits(0);
    assert!(output.warnings().contains(&"recipients-changed".to_owned()), "{output:?}");
    // This host saw a key file that it did not make: that of the host before.
    fresh.sealift(&["keys", "rebase"]).exits(15);
    fresh.sealift(&["keys", "rebase", "-r", &other]).exits(0);
}

/// A person at a terminal, who answers like this.
fn at_a_terminal(fresh: &World, arguments: &[&str], answer: &str) -> Output {
    let command = fresh.command(arguments);
    let script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let mut terminal = Command::new("python3");
    terminal.env_clear().args(["-c", script]).arg(command.get_program()).args(command.get_args());
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
    running.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
    running.wait_with_output().unwrap().into()
}

#[test]
fn at_a_terminal_the_recipients_of_the_opened_key_file_are_shown_and_confirmed() {
    let world = World::ready();
    a_host_with_a_past(&world);
    let second = person(&world, "second");
    keys(&world, &["add", "-r", &second], &["operator"]).exits(0);
    let fresh = world.other_host("fresh");
    let (database, identity) = (world.database().display().to_string(), world.text("operator.key"));
    let init = ["init", "--take-over", "--database", &database, "--identity", &identity];
    let before = tree(&world.path("repository"));
    let fingerprint = world.signer().public().fingerprint();
    let refused = at_a_terminal(&fresh, &init, "n\n").exits(15).says(&fingerprint);
    refused.says(&own(&world)).says(&second);
    assert!(tree(&world.path("repository")) == before && !fresh.config().exists());
    at_a_terminal(&fresh, &init, "y\n").exits(0).says(&own(&world)).says(&second);
    let config = fs::read_to_string(fresh.config()).unwrap();
    assert!(config.contains(&own(&world)) && config.contains(&second), "{config}");
    let backup = fresh.sealift(&["backup", "--json"]).exits(0);
    assert_eq!((&backup.json()["sequence"], backup.warnings()), (&json!(3), Vec::<String>::new()));
    let signer = fresh.signer().public().to_string();
    for name in ["operator", "second"] {
        let key = world.text(&format!("{name}.key"));
        world.other_host("reader").sealift(&["restore", "3", "-i", &key, "--dry-run", "--signer", &signer]).exits(0);
    }
}
