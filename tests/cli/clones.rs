//! Two copies of one host that back up at the same instant: whatever comes of it, each listed snapshot restores, and the one
//! that lost stops.

use std::fs;

use crate::support::minio::Minio;
use crate::support::s3s::S3s;
use crate::support::world::{World, copy_tree};

const ROUNDS: usize = 50;

/// Makes `clone` a copy of `host` as it is now.
fn copy(host: &World, clone: &World) {
    let _ = fs::remove_dir_all(clone.state());
    copy_tree(&host.state(), &clone.state());
    fs::copy(host.config(), clone.config()).unwrap();
}

/// Both at once; their exit codes.
fn both(host: &World, clone: &World) -> [i32; 2] {
    let running = [host, clone].map(|machine| machine.start(&["backup", "--json"]));
    running.map(|running| running.wait().code)
}

fn newest_restores(host: &World) {
    let output = host.restore("latest", "round");
    assert_eq!(output.code, 0, "{}", output.all());
    fs::remove_dir_all(host.path("round")).unwrap();
}

fn every_snapshot_is_whole(host: &World) {
    let identity = host.text("operator.key");
    host.other_host("checker").sealift(&["check", "-i", &identity, "--read-data", "--json"]).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_with_conditional_puts_the_loser_stops_at_once() {
    let Some(server) = Minio::start().await else { return };
    let host = World::in_bucket(&server);
    host.backup();
    let clone = host.other_host("clone");
    for round in 0..ROUNDS {
        copy(&host, &clone);
        if round % 2 == 0 {
            host.add_rows(1);
        }
        let codes = both(&host, &clone);
        assert!(matches!(codes, [0, 16] | [16, 0]), "round {round}: {codes:?}");
        newest_restores(&host);
        if codes[0] == 16 {
            copy(&clone, &host);
        }
    }
    every_snapshot_is_whole(&host);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_that_ignores_conditions_the_loser_stops_by_its_next_run() {
    let server = S3s::start().await;
    server.ignore_conditions(true);
    let host = World::in_bucket_of_a_single_writer(&server);
    host.backup();
    let clone = host.other_host("clone");
    for round in 0..ROUNDS {
        copy(&host, &clone);
        if round % 2 == 0 {
            host.add_rows(1);
        }
        let first = both(&host, &clone);
        assert!(first.iter().all(|code| matches!(code, 0 | 16)), "round {round}: {first:?}");
        newest_restores(&host);
        // Whichever lost and does not know it yet learns it now; the other one goes on.
        let next = [&host, &clone].map(|machine| machine.sealift(&["backup", "--json"]).code);
        let stopped = [0, 1].map(|n| first[n] == 16 || next[n] == 16);
        assert!(stopped.iter().any(|stopped| *stopped), "round {round}: {first:?}, then {next:?}");
        newest_restores(&host);
        match next {
            [0, _] => {}
            [_, 0] => copy(&clone, &host),
            // Each found the other's record: a person adopts what is there.
            _ => drop(host.sealift(&["backup", "--adopt", "--json"]).exits(0)),
        }
    }
    every_snapshot_is_whole(&host);
}
