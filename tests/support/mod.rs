//! What several test files share: S3 servers to test against.
#![allow(dead_code)] // Each test file uses a part of it.

pub mod canned;
pub mod link;
pub mod memory;
pub mod minio;
pub mod past;
pub mod s3s;
pub mod world;

use sealift::store::{Credentials, RepositoryUrl, S3Settings};

/// A running S3 server with one bucket, for as long as this lives.
pub trait Server: Send + Sync {
    fn endpoint(&self) -> &str;
    fn bucket(&self) -> &str;
    fn access_key_id(&self) -> &str;
    fn secret_access_key(&self) -> &str;

    fn settings(&self) -> S3Settings {
        S3Settings {
            endpoint: Some(self.endpoint().to_owned()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(credentials(self.access_key_id(), self.secret_access_key())),
            ..S3Settings::default()
        }
    }

    fn url(&self, prefix: &str) -> RepositoryUrl {
        format!("s3://{}/{prefix}", self.bucket()).parse().expect("a repository URL")
    }
}

pub fn credentials(access_key_id: &str, secret_access_key: &str) -> Credentials {
    Credentials::new(access_key_id, secret_access_key, None, None, "test")
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("its address").port()
}

/// The memory that is a program's own, in bytes: RssAnon and RssShmem, without the pages of mapped files, which the kernel
/// takes back when it needs them.
pub fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = |name: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.trim().trim_end_matches(" kB").parse().ok()
    };
    Some((kilobytes("RssAnon:")? + kilobytes("RssShmem:")?) * 1024)
}
