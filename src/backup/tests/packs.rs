//! Packs whose next one is never taken.

use std::sync::RwLock;

use super::*;
use crate::backup::packing::{PackSettings, Packer};
use crate::crypto::{DataIdentity, FingerprintKey};

/// Random enough not to compress.
fn block(number: u64) -> Vec<u8> {
    let hashes =
        (0..128_u64).flat_map(|part| *blake3::hash(&[number.to_le_bytes(), part.to_le_bytes()].concat()).as_bytes());
    hashes.collect()
}

/// As when the network fails: one pack is not taken, and the next one finds no room.
#[tokio::test(flavor = "multi_thread")]
async fn the_maker_of_packs_ends_when_they_are_no_longer_taken() {
    let settings = PackSettings { recipient: DataIdentity::generate().recipient(), level: 1, threads: 2 };
    let (mut packer, mut packs) = Packer::start(&settings, Arc::new(RwLock::new(Catalog::of([])))).expect("threads");
    let key = FingerprintKey::generate();
    let adding = tokio::task::spawn_blocking(move || {
        for number in 0..20_000 {
            let block = block(number);
            packer.add(&block, key.fingerprint(&block))?;
        }
        packer.finish()
    });
    let held = packs.next().await.expect("a pack").expect("sealed");
    drop(packs);
    // That it ended with the work undone is for the uploader to say: it knows why it takes no more packs.
    let _ = adding.await.expect("no panic");
    drop(held);
}

/// The encrypter waits for room, a drain waits for the encrypter, and then packs are no longer taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_when_packs_are_no_longer_taken() {
    let settings = PackSettings { recipient: DataIdentity::generate().recipient(), level: 1, threads: 2 };
    let (mut packer, mut packs) = Packer::start(&settings, Arc::new(RwLock::new(Catalog::of([])))).expect("threads");
    let (key, (added, all_added)) = (FingerprintKey::generate(), tokio::sync::oneshot::channel());
    let draining = tokio::task::spawn_blocking(move || {
        // A pack that is not taken, and half of another: its last frame finds no room.
        for number in 0..4096 + 2048 {
            let mut block = block(number);
            block[0] = 1;
            packer.add(&block, key.fingerprint(&block)).expect("taken");
        }
        added.send(()).expect("somebody waits");
        packer.drain()
    });
    let held = packs.next().await.expect("a pack").expect("sealed");
    all_added.await.expect("added");
    drop(packs);
    assert!(draining.await.expect("no panic").is_err());
    drop(held);
}
