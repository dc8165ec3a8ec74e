//! Every kind of recipient and identity: age and SSH keys, a protected identity file, a plugin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::keys::{keys, opens, person, ready, versions};
use crate::support::world::{World, tree};

/// Makes an SSH key `NAME.key`; its public half.
fn ssh_key(world: &World, name: &str, kind: &[&str]) -> String {
    let file = world.path(&format!("{name}.key"));
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-f"]).arg(&file).args(kind).status();
    assert!(made.expect("ssh-keygen").success());
    fs::read_to_string(world.path(&format!("{name}.key.pub"))).unwrap().trim().to_owned()
}

/// Puts the plugin on the PATH of all that come from this world, and makes an identity `NAME.key` of it.
fn plugin_key(world: &mut World, name: &str) -> String {
    let folder = world.path("bin");
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("age-plugin-scratch");
    fs::write(&program, include_str!("age-plugin-scratch")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    world.set_variable("PATH", &format!("{}:/usr/bin:/bin", folder.display()));
    let made = Command::new("python3").arg(&program).arg("--generate").output().expect("python3");
    let made = String::from_utf8(made.stdout).unwrap();
    let (recipient, identity) = made.split_once('\n').unwrap();
    fs::write(world.path(&format!("{name}.key")), identity).unwrap();
    recipient.to_owned()
}

#[test]
fn a_rotation_goes_from_kind_to_kind_and_each_opens_what_was_there_before() {
    let mut world = ready();
    let steps = [
        ("ed25519", ssh_key(&world, "ed25519", &["-t", "ed25519"])),
        ("rsa", ssh_key(&world, "rsa", &["-t", "rsa", "-b", "2048"])),
        ("plugin", plugin_key(&mut world, "plugin")),
        ("x25519", person(&world, "x25519")),
    ];
    let mut before = "operator";
    for (name, recipient) in &steps {
        let proof = world.text(&format!("{name}.key"));
        let json = keys(&world, &["rotate", "-r", recipient, "--proof", &proof], &[before]).exits(0).json();
        assert_eq!(json["recipients"][0], *recipient);
        assert!(opens(&world, name, 1) && !opens(&world, before, 2), "{name}");
        before = name;
    }
    assert_eq!(versions(&world, 1), ["5.age"]);
}

#[test]
fn all_kinds_together_each_open_and_a_rebase_encrypts_to_all_of_them() {
    let mut world = ready();
    let plugin = plugin_key(&mut world, "plugin");
    let (ed, rsa) =
        (ssh_key(&world, "ed25519", &["-t", "ed25519"]), ssh_key(&world, "rsa", &["-t", "rsa", "-b", "2048"]));
    let arguments = ["keys", "rebase", "-r", &plugin, "-r", &ed, "-r", &rsa, "--json"];
    let json = world.sealift(&arguments).exits(0).json();
    assert_eq!((&json["epoch"], &json["sequence"]), (&2.into(), &3.into()));
    assert!(["plugin", "ed25519", "rsa"].into_iter().all(|name| opens(&world, name, 3)));
    assert!(!opens(&world, "operator", 3));
}

#[test]
fn a_plugin_that_is_missing_is_named_before_anything_is_written_and_stops_no_backup() {
    let mut elsewhere = World::new();
    let recipient = plugin_key(&mut elsewhere, "plugin");
    let world = ready();
    let before = tree(&world.path("repository"));
    keys(&world, &["rotate", "-r", &recipient], &["operator"]).exits(2).says("age-plugin-scratch");
    let config = fs::read_to_string(world.config()).unwrap();
    world.sealift(&["keys", "rebase", "-r", &recipient]).exits(2).says("age-plugin-scratch");
    assert_eq!(fs::read_to_string(world.config()).unwrap(), config);
    assert_eq!(tree(&world.path("repository")), before);
    // A backup needs no plugin of the recipients that it encrypts to.
    let own = config.split('"').find(|word| word.starts_with("age1")).unwrap();
    fs::write(world.config(), config.replace(own, &recipient)).unwrap();
    world.sealift(&["backup", "--json"]).exits(0);
}

/// Two key files: the first for `operator.key`, the second for `plugin.key`, whose token is then unplugged.
fn unplugged(how: &str) -> World {
    let mut world = ready();
    let recipient = plugin_key(&mut world, "plugin");
    keys(&world, &["rotate", "-r", &recipient], &["operator"]).exits(3);
    world.set_variable("UNPLUGGED", how);
    world
}

#[test]
fn an_identity_that_cannot_be_asked_ends_every_change_and_nothing_is_deleted() {
    for (how, word) in [("missing", "token not found"), ("dies", "age-plugin-scratch")] {
        let mut world = unplugged(how);
        let (carol, dan) = (person(&world, "carol"), person(&world, "dan"));
        let before = tree(&world.path("repository"));
        let (proof, token) = (world.text("carol.key"), world.text("plugin.key"));
        let copies = world.state_of_repository().join("keys").display().to_string();
        let changes: [&[&str]; 5] = [
            &["confirm"],
            &["add", "-r", &carol],
            &["rotate", "-r", &carol, "--proof", &proof],
            &["rotate", "-r", &dan, "--proof", &token],
            &["restore", "--from", &copies],
        ];
        for change in changes {
            for identities in [&["operator", "plugin"][..], &["plugin", "operator"], &["plugin"]] {
                let output = keys(&world, change, identities).exits(12).says(word);
                assert!(tree(&world.path("repository")) == before, "{change:?} {identities:?} {output:?}");
            }
        }
        world.set_variable("UNPLUGGED", "");
        let json = keys(&world, &["confirm"], &["operator", "plugin"]).exits(0).json();
        assert_eq!(json["epochs"][0]["deleted"], serde_json::json!([1]));
        assert!(opens(&world, "plugin", 2) && !opens(&world, "operator", 2));
    }
}

#[test]
fn a_restore_says_what_is_wrong_with_the_token_and_takes_another_identity_if_there_is_one() {
    let world = unplugged("missing");
    let (plugin, operator) = (world.text("plugin.key"), world.text("operator.key"));
    let reader = world.other_host("reader");
    let restore = ["restore", "--only", ".env", "--to", "-", "-i", &plugin];
    reader.sealift(&restore).exits(12).says("token not found");
    reader.sealift(&[&restore[..], &["-i", &operator]].concat()).exits(0);
    // The same key file, too.
    let recipient = fs::read_to_string(world.config()).unwrap();
    let own = recipient.split('"').find(|word| word.starts_with("age1")).unwrap();
    let list = reader.sealift(&["keys", "list", "-i", &plugin, "-i", &operator, "--json"]).exits(0);
    list.says("token not found").says(own);
}

#[test]
fn an_identity_that_cannot_be_asked_about_the_new_set_confirms_it_later() {
    let mut world = ready();
    let recipient = plugin_key(&mut world, "plugin");
    world.set_variable("UNPLUGGED", "missing");
    let output = keys(&world, &["rotate", "-r", &recipient], &["operator", "plugin"]).exits(3);
    assert!(output.warnings().contains(&"rotation-not-proved".to_owned()), "{output:?}");
    assert_eq!(versions(&world, 1), ["1.age", "2.age"]);
    world.set_variable("UNPLUGGED", "");
    keys(&world, &["confirm"], &["plugin", "operator"]).exits(0);
    assert_eq!(versions(&world, 1), ["2.age"]);
}

#[test]
fn a_recipient_with_a_typing_error_is_refused_by_every_command() {
    let world = ready();
    let good = person(&world, "bob");
    let bad = good.replace(&good[10..12], if &good[10..12] == "qq" { "pp" } else { "qq" });
    keys(&world, &["add", "-r", &bad], &["operator"]).exits(2).says(&bad);
    world.sealift(&["keys", "rebase", "-r", &bad]).exits(2).says(&bad);
    let config = fs::read_to_string(world.config()).unwrap();
    let own = config.split('"').find(|word| word.starts_with("age1")).unwrap();
    fs::write(world.config(), config.replace(own, &bad)).unwrap();
    world.sealift(&["backup"]).exits(2).says(&bad);
}
