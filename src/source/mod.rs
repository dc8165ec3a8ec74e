//! Reading what is backed up.
