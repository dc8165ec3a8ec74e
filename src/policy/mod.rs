//! What is to happen, and why, decided without doing any of it: state and times in, a plan with a reason for every line
//! out.
//!
//! Nothing here reads a clock, a file or a bucket. `operations` gathers what a plan needs and does what it says, no more.

pub mod compact;
pub mod effective;
pub mod prune;
pub mod retain;
