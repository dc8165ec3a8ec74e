//! Packs of which nobody takes the next one.

use super::*;
use crate::backup::packing::{PackSettings, Packer};
use crate::crypto::{DataIdentity, FingerprintKey};

/// Random enough not to compress.
fn block(number: u64) -> Vec<u8> {
    let hashes =
        (0..128_u64).flat_map(|part| *blake3::hash(&[number.to_le_bytes(), part.to_le_bytes()].concat()).as_bytes());
    hashes.collect()
}

/// As when the network fails: one pack is in nobody's hands, and the next one finds no room beside it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_makes_packs_ends_when_nobody_takes_them_any_more() {
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
    // That it ended with the work undone is somebody else's to tell: whoever no longer takes packs knows why.
    let _ = adding.await.expect("no panic");
    drop(held);
}

/// The sealer waits for room, a drain waits for the sealer, and then nobody takes packs any more.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_drain_ends_when_nobody_takes_packs_any_more() {
    let settings = PackSettings { recipient: DataIdentity::generate().recipient(), level: 1, threads: 2 };
    let (mut packer, mut packs) = Packer::start(&settings, Arc::new(RwLock::new(Catalog::of([])))).expect("threads");
    let (key, (added, all_added)) = (FingerprintKey::generate(), tokio::sync::oneshot::channel());
    let draining = tokio::task::spawn_blocking(move || {
        // A pack in nobody's hands, and half a one: its last frame is without room beside the first.
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
