//! sealift: encrypted, deduplicating off-site backups of live SQLite databases and their small files.
//!
//! Each room of this house calls only rooms below it (`tests/house` holds that):
//! `cli` → `messages` → `config` → `admin` → `verify` → `backup`, `restore`, `retention`, `keys` → `history` → `repository` →
//! `error` → `policy` → `format` → `host` → `source` → `store` → `crypto` → `finding`, `events` → `fsx`, `clock`,
//! `allocator`, `buffers`. `guide`, on the floor of `finding`, holds text only.

pub mod admin;
pub mod allocator;
pub mod backup;
pub mod buffers;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod error;
pub mod events;
pub mod finding;
pub mod format;
pub mod fsx;
pub mod guide;
pub mod history;
pub mod host;
pub mod keys;
pub mod messages;
pub mod policy;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod source;
pub mod store;
pub mod verify;
