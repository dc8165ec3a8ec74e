//! The built program from outside: real processes, real crashes, exit codes and the one JSON document.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

mod check;
mod check_damage;
mod check_parts;
mod clocks;
mod compaction;
mod contradictions;
mod damage;
mod documents;
mod drill;
mod identities;
mod interruptions;
mod keys;
mod keys_at_once;
mod keys_exchanged;
mod keys_host;
mod keys_killed;
mod keys_recipients;
mod keys_set_back;
mod load;
mod losses;
mod memory;
mod network;
mod prune;
mod prune_races;
mod retain;
mod secrets;
mod sources;
mod state;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod take_over;
mod targets;
mod trust;
mod unsent;
mod vanished;
mod verdicts;
mod writers;
