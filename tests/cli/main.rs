//! The built program from outside: real processes, real crashes, exit codes and the one JSON document.

mod damage;
mod documents;
mod identities;
mod interruptions;
mod losses;
mod secrets;
mod sources;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod unsent;
mod writers;
