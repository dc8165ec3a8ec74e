//! The worst day: all that is left is the repository, an identity, and standard tools. The script that lies in every
//! repository was written from the format's description, and brings back what sealift brings back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod bytes;
mod damage;
mod envelopes;
mod fixtures;
mod forge;
mod kit;
#[path = "../support/live.rs"]
mod live;
mod script;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/trinity.rs"]
mod trinity;
mod trust;
