//! sealift: encrypted, deduplicating off-site backups of live SQLite databases and the small files beside them.
//!
//! Each room of this house calls only rooms below it (`tests/house` holds that):
//! `cli` → `config` → `operations` → `plan` → `repository` → `state` → `source` → `store` → `crypto` → `fsx`, `clock`,
//! `allocator`, `buffers`.

pub mod allocator;
pub mod buffers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod fsx;
pub mod operations;
pub mod plan;
pub mod repository;
pub mod source;
pub mod state;
pub mod store;
