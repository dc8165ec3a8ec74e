//! What is to happen, and why, decided without doing any of it: state and times in, a plan with a reason for every line
//! out.
//!
//! Nothing here reads a clock, a file or a bucket. The layers above gather what a plan needs and carry it out.

mod blocker;
pub mod compact;
pub mod ignore;
pub mod key_sets;
pub mod parent;
pub mod prune;
pub mod retain;
pub mod seen;
pub mod times;
pub mod trust;
