//! From page maps to a manifest.

use std::collections::BTreeMap;

use super::OperationError;
use super::capture::Captured;
use super::scan::PieceMap;
use crate::crypto::{PIECE_BYTES, file_digest, sha256};
use crate::format::{Body, Entry, LinkTable, Manifest, PackRef, Run};
use crate::host::{Catalog, Location};
use crate::source::SmallFile;

/// One source, read at one instant.
pub(super) enum Content {
    Small(SmallFile),
    Paged(Captured),
}

/// A manifest of `sources`, and the packs that it needs in the order of its pack table.
pub(super) fn assemble(
    sources: &[(String, Content)],
    catalog: &Catalog,
) -> Result<(Manifest, Vec<PackRef>), OperationError> {
    let table = PackTable::of(sources, catalog)?;
    let entries = sources.iter().map(|(name, content)| entry(name, content, &table)).collect();
    Ok((Manifest { entries, packs: table.packs.iter().map(|pack| pack.0).collect() }, table.packs))
}

/// The packs that any source uses, numbered in the catalog's order.
struct PackTable {
    packs: Vec<PackRef>,
    index: BTreeMap<usize, u32>,
}

impl PackTable {
    fn of(sources: &[(String, Content)], catalog: &Catalog) -> Result<Self, OperationError> {
        // One by one: collecting would hold a pair for each page of a database before it sorts them.
        let mut index = BTreeMap::new();
        for location in sources.iter().flat_map(|(_, content)| locations(content)) {
            index.entry(location.ordinal()).or_insert(0);
        }
        let mut packs = Vec::with_capacity(index.len());
        for (ordinal, number) in &mut index {
            // A pack without a name was never stored: its upload failed, and that error is the one to show.
            let (name, bytes) = catalog.pack(*ordinal).ok_or(OperationError::Stopped)?;
            *number = packs.len() as u32;
            packs.push(PackRef(name, bytes));
        }
        Ok(Self { packs, index })
    }
}

fn pieces(content: &Content) -> &[PieceMap] {
    match content {
        Content::Small(_) => &[],
        Content::Paged(captured) => &captured.pieces,
    }
}

/// Where the blocks of one source lie.
pub(super) fn locations(content: &Content) -> impl Iterator<Item = Location> {
    pieces(content).iter().flat_map(|piece| piece.locations.iter().copied())
}

fn entry(name: &str, content: &Content, table: &PackTable) -> Entry {
    let (meta, digest, body) = match content {
        Content::Small(file) => {
            let pieces: Vec<_> = file.bytes.chunks(PIECE_BYTES).map(sha256).collect();
            (file.meta, file_digest(&pieces), Body::Inline(file.bytes.clone()))
        }
        Content::Paged(captured) => {
            let digest = file_digest(captured.pieces.iter().map(|piece| &piece.digest));
            (captured.fixed.meta, digest, paged_body(captured, content, table))
        }
    };
    let bytes = match content {
        Content::Small(file) => file.bytes.len() as u64,
        Content::Paged(captured) => captured.fixed.shape.bytes,
    };
    Entry {
        name: name.to_owned(),
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime_ns: meta.mtime_ns,
        bytes,
        digest,
        body,
    }
}

fn paged_body(captured: &Captured, content: &Content, table: &PackTable) -> Body {
    let runs = runs(locations(content), table);
    let block_size = captured.fixed.shape.block_size as u32;
    if !captured.fixed.shape.database {
        return Body::Blocks { block_size, runs };
    }
    let links = captured.pieces.iter().flat_map(|piece| piece.links.iter().copied()).collect();
    // Pieces come in order and so do the links in each.
    Body::Database { page_size: block_size, runs, links: LinkTable::new(links).unwrap_or_default() }
}

fn runs(locations: impl Iterator<Item = Location>, table: &PackTable) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for location in locations {
        let (pack, slot) = (table.index[&location.ordinal()], location.slot());
        match runs.last_mut() {
            Some(run) if run.pack == pack && run.slot + run.blocks == slot => run.blocks += 1,
            _ => runs.push(Run { pack, slot, blocks: 1 }),
        }
    }
    runs.shrink_to_fit();
    runs
}
