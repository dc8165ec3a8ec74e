//! `sealift demo`

use super::args::{Demo, Global};
use super::failure::Failure;

pub fn run(_demo: &Demo, _global: &Global) -> Result<u8, Failure> {
    Err(Failure::new(super::failure::FAILED, "not built yet"))
}
