//! A real MinIO server, where `SEALIFT_TEST_MINIO` names its binary.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode,
    ObjectLockRule, VersioningConfiguration,
};
use sealift::crypto::sha256;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Server, credentials, free_port};

const BUCKET: &str = "bucket";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What the bucket keeps of what is deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nothing,
    Versions,
    Locks,
}

pub struct Minio {
    endpoint: String,
    user: String,
    password: String,
    child: Child,
    _data: TempDir,
}

impl Minio {
    /// A server of its own for the caller; `None`, with a line that says so, where no binary is named. With
    /// `SEALIFT_TEST_REQUIRE` set, nothing may be left out.
    pub async fn start() -> Option<Self> {
        Self::start_with(Keeps::Nothing).await
    }

    /// One whose bucket keeps old versions.
    pub async fn start_versioned() -> Option<Self> {
        Self::start_with(Keeps::Versions).await
    }

    /// One whose bucket locks every object for a day.
    pub async fn start_locked() -> Option<Self> {
        Self::start_with(Keeps::Locks).await
    }

    async fn start_with(keeps: Keeps) -> Option<Self> {
        let Some(binary) = env::var_os("SEALIFT_TEST_MINIO").map(PathBuf::from) else {
            assert!(env::var_os("SEALIFT_TEST_REQUIRE").is_none(), "SEALIFT_TEST_MINIO is not set, but required");
            println!("left out: MinIO (set SEALIFT_TEST_MINIO, or run tests/run)");
            return None;
        };
        let mut server = Self::spawn(&binary);
        server.wait_until_healthy().await;
        server.create_bucket(keeps).await;
        Some(server)
    }

    fn spawn(binary: &Path) -> Self {
        let data = tempfile::tempdir().expect("a scratch folder");
        let (user, password) = (random_word(&data, "user"), random_word(&data, "password"));
        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new(binary)
            .args(["server", "--quiet", "--address", &address])
            .args(["--console-address", &format!("127.0.0.1:{}", free_port())])
            .arg(data.path())
            .env("MINIO_ROOT_USER", &user)
            .env("MINIO_ROOT_PASSWORD", &password)
            .env("MINIO_SITE_REGION", "us-east-1") // Without one it takes signatures for any.
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("MINIO_PROMETHEUS_AUTH_TYPE", "public") // Its count of requests, for the benchmark.
            .env("HOME", data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("MinIO starts");
        Self { endpoint: format!("http://{address}"), user, password, child, _data: data }
    }

    async fn wait_until_healthy(&mut self) {
        let began = Instant::now();
        while !self.is_healthy().await {
            assert!(self.child.try_wait().expect("MinIO's state").is_none(), "MinIO ended at once");
            assert!(began.elapsed() < START_TIMEOUT, "MinIO did not become healthy");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_healthy(&self) -> bool {
        let address = self.endpoint.trim_start_matches("http://");
        let Ok(mut connection) = TcpStream::connect(address).await else { return false };
        let request = format!("GET /minio/health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        connection.write_all(request.as_bytes()).await.is_ok()
            && connection.read_to_string(&mut answer).await.is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    async fn create_bucket(&self, keeps: Keeps) {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .credentials_provider(credentials(&self.user, &self.password))
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let lock = keeps == Keeps::Locks;
        client.create_bucket().bucket(BUCKET).object_lock_enabled_for_bucket(lock).send().await.expect("a bucket");
        if lock {
            let day = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(1).build();
            let rule = ObjectLockRule::builder().default_retention(day).build();
            let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule);
            let put = client.put_object_lock_configuration().bucket(BUCKET);
            put.object_lock_configuration(lock.build()).send().await.expect("a lock");
        }
        if keeps == Keeps::Versions {
            let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            let put = client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(enabled);
            put.send().await.expect("versions");
        }
    }
}

/// The scratch folder's random name makes it unlike any other run's.
fn random_word(folder: &TempDir, purpose: &str) -> String {
    let seed = format!("{purpose} {} {:?}", folder.path().display(), std::time::SystemTime::now());
    sha256(seed.as_bytes()).to_string()[..20].to_owned()
}

impl Server for Minio {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn bucket(&self) -> &str {
        BUCKET
    }

    fn access_key_id(&self) -> &str {
        &self.user
    }

    fn secret_access_key(&self) -> &str {
        &self.password
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
