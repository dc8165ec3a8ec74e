//! Criterion benches for the stages of a backup, each alone: `cargo bench --bench stages`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::Connection;
use sealift::crypto::{DataIdentity, FingerprintKey, sha256};
use sealift::format::{FrameCompressor, MAX_PACK_BYTES, PackReader, PackWriter, Texture, take_links_out};
use sealift::host::{Catalog, CatalogPack};
use sealift::source::{Database, ReadLimits};

#[path = "../support/trinity.rs"]
mod trinity;

const PAGE: usize = 4096;

/// 64 MB of Trinity-shaped pages.
fn pages() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let database = trinity::generate(folder.path(), 64, 1).database;
    Connection::open(&database).unwrap().execute_batch("vacuum").unwrap();
    let bytes = std::fs::read(&database).unwrap();
    (folder, database, bytes)
}

fn scan(criterion: &mut Criterion) {
    let (_folder, path, bytes) = pages();
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(10);
    let mut buffer = vec![0; 1 << 20];
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let mut database = Database::open(&path, &ReadLimits::default()).unwrap();
            let view = database.begin().unwrap();
            let per_read = (buffer.len() / PAGE) as u32;
            for first in (1..=view.page_count()).step_by(per_read as usize) {
                let pages = per_read.min(view.page_count() - first + 1);
                view.read(first, &mut buffer[..pages as usize * PAGE]).unwrap();
            }
            view.finish().unwrap();
        });
    });
    let key = FingerprintKey::generate();
    group.bench_function("fingerprint", |bencher| {
        bencher.iter(|| bytes.chunks_exact(PAGE).map(|page| key.fingerprint(page)[0]).fold(0, u8::wrapping_add));
    });
    group.bench_function("piece digest", |bencher| {
        bencher.iter(|| bytes.chunks(1 << 20).map(sha256).map(|digest| digest.as_bytes()[0]).fold(0, u8::wrapping_add));
    });
    group.bench_function("links out", |bencher| {
        let mut pages = bytes.clone();
        bencher.iter(|| take_links_out(1, PAGE, black_box(&mut pages), &mut Vec::new()));
    });
}

fn pack(criterion: &mut Criterion) {
    let (_folder, _path, bytes) = pages();
    let blocks = &bytes[bytes.len() / 2..][..MAX_PACK_BYTES];
    let identity = DataIdentity::generate();
    let (recipient, buffers) = (identity.recipient(), PackReader::buffers());
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(blocks.len() as u64)).sample_size(10);
    let seal = |level| {
        let mut compressor = FrameCompressor::new(level).unwrap();
        let mut writer = PackWriter::new(&recipient, &buffers).unwrap();
        for frame in blocks.chunks(Texture::Text.frame_bytes(level)) {
            writer.append(&compressor.compress(frame, Texture::Text, Vec::new()).unwrap()).unwrap();
        }
        writer.finish().unwrap()
    };
    for level in [1, 2, 3, 6] {
        group.bench_function(format!("make, level {level}"), |bencher| bencher.iter(|| seal(level).len()));
    }
    let sealed = seal(3);
    group.bench_function("open", |bencher| {
        bencher.iter(|| {
            let mut reader = PackReader::new(sealed.bytes(), &identity, &buffers).unwrap();
            while reader.blocks(4096).unwrap().is_some() {}
        });
    });
}

fn catalog(criterion: &mut Criterion) {
    let fingerprint = |n: u32| {
        let mut print = [0; 16];
        print.copy_from_slice(&sha256(&n.to_le_bytes()).as_bytes()[..16]);
        print
    };
    // 2.6 million pages: 10 GB.
    let packs = (0..635u32).map(|pack| CatalogPack {
        name: sha256(&pack.to_be_bytes()),
        bytes: 6 << 20,
        epoch: 1,
        block_size: 4096,
        fingerprints: (pack * 4096..(pack + 1) * 4096).map(fingerprint).collect(),
    });
    let catalog = Catalog::of(packs);
    let folder = tempfile::tempdir().unwrap();
    catalog.save(folder.path(), |_| true).unwrap();
    let mut group = criterion.benchmark_group("catalog of 2.6 million blocks");
    group.sample_size(10);
    let wanted: Vec<_> = (0..1000u32).map(|n| fingerprint(n.wrapping_mul(2_654_435_761) % 2_600_960)).collect();
    group.throughput(Throughput::Elements(wanted.len() as u64));
    group.bench_function("look up", |bencher| {
        bencher.iter_batched_ref(
            || wanted.clone(),
            |wanted| wanted.iter().filter(|print| catalog.find(print).is_some()).count(),
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("load", |bencher| {
        bencher.iter(|| Catalog::of(Catalog::load(folder.path()).unwrap().packs).blocks());
    });
}

criterion_group!(stages, scan, pack, catalog);
criterion_main!(stages);
