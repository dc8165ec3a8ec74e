//! `s3s-fs`, an S3 server over a directory, in this process: always at hand, and honest about the protocol. Its
//! conditional create looks first and renames later, so it says nothing about races.

use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const ACCESS_KEY_ID: &str = "test-key";
const SECRET_ACCESS_KEY: &str = "test-secret";
const BUCKET: &str = "bucket";

pub struct S3s {
    endpoint: String,
    root: TempDir,
    accepting: JoinHandle<()>,
}

impl S3s {
    /// Starts on a free loopback port, in the runtime of the caller.
    pub async fn start() -> Self {
        let root = tempfile::tempdir().expect("a scratch folder");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a bucket");
        let mut service = S3ServiceBuilder::new(FileSystem::new(root.path()).expect("s3s-fs"));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { endpoint, root, accepting }
    }

    /// The bucket's files, to damage or to look at.
    pub fn bucket_folder(&self) -> std::path::PathBuf {
        Path::new(self.root.path()).join(BUCKET)
    }
}

impl super::Server for S3s {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn bucket(&self) -> &str {
        BUCKET
    }

    fn access_key_id(&self) -> &str {
        ACCESS_KEY_ID
    }

    fn secret_access_key(&self) -> &str {
        SECRET_ACCESS_KEY
    }
}

impl Drop for S3s {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
