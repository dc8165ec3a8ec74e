//! The built program from outside: real processes, real crashes, exit codes and the one JSON document.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod adopted;
mod check;
mod check_damage;
mod check_parts;
mod clocks;
mod clones;
mod compaction;
mod damage;
mod documents;
mod drill;
mod golden;
mod help;
mod identities;
mod init;
mod interruptions;
mod keys;
mod keys_at_once;
mod keys_host;
mod keys_killed;
mod keys_missing;
mod keys_recipients;
mod keys_replaced;
mod load;
mod look;
mod losses;
mod memory;
mod network;
mod operators;
mod prune;
mod prune_races;
mod retain;
mod roles;
mod secrets;
mod sources;
mod state;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod take_over;
mod take_over_recipients;
mod targets;
mod trust;
mod unsent;
mod vanished;
mod verdicts;
mod writers;
