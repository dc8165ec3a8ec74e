//! Bytes in a bucket or a directory.
