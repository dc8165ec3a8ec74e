//! `sealift help`: commands as clap shows them, and the pages of the guide.

use crate::support::world::World;

#[test]
fn help_of_a_command_is_what_the_command_says_of_itself() {
    let world = World::new();
    for command in [&["backup"][..], &["keys"], &["keys", "add"], &["help"]] {
        let help = world.sealift(&[&["help"], command].concat()).exits(0);
        let own = world.sealift(&[command, &["--help"]].concat()).exits(0);
        assert_eq!(help.stdout, own.stdout, "{command:?}");
        assert!(!help.stdout.is_empty());
    }
    let all = world.sealift(&["help"]).exits(0);
    assert_eq!(all.stdout, world.sealift(&["--help"]).exits(0).stdout);
    for (topic, ..) in sealift::guide::TOPICS {
        assert!(all.all().contains(&format!("\n  {topic} ")), "{topic}");
    }
}

#[test]
fn a_page_is_wrapped_at_the_width_of_the_terminal_up_to_100_columns() {
    let mut world = World::new();
    let widest = |world: &World| {
        let page = String::from_utf8(world.sealift(&["help", "trust"]).exits(0).stdout).unwrap();
        page.lines().filter(|line| !line.starts_with("    ")).map(|line| line.chars().count()).max().unwrap()
    };
    for (columns, from, to) in [("60", 50, 60), ("90", 81, 90), ("300", 91, 100)] {
        world.set_variable("COLUMNS", columns);
        assert!((from..=to).contains(&widest(&world)), "{columns}: {}", widest(&world));
    }
}

#[test]
fn what_is_neither_a_command_nor_a_topic_is_wrong_usage() {
    let world = World::new();
    for words in [&["nonsense"][..], &["storage", "trust"], &["keys", "nonsense"]] {
        world.sealift(&[&["help"], words].concat()).exits(2);
    }
}
