//! Where credentials and endpoint come from when no setting says. A process's environment is shared by all its
//! threads, so each case runs this program again with an environment of its own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use sealift::store::{RepositoryUrl, S3Settings, StoreError, open};

use crate::support::Server;
use crate::support::s3s::S3s;

const URL: &str = "SEALIFT_TEST_ENVIRONMENT_URL";

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_variables_are_enough() {
    let server = S3s::start().await;
    let answer = list_with(&[
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_ACCESS_KEY_ID", server.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", server.secret_access_key()),
    ])
    .await;
    assert_eq!(answer, "0 objects");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_may_lie_in_files() {
    let server = S3s::start().await;
    let folder = tempfile::tempdir().expect("a scratch folder");
    let id = write(folder.path(), "id", &format!("{}\n", server.access_key_id()));
    let secret = write(folder.path(), "secret", &format!("{}\n", server.secret_access_key()));
    let endpoint = ("AWS_ENDPOINT_URL_S3", server.endpoint());
    let answer = list_with(&[endpoint, ("AWS_ACCESS_KEY_ID_FILE", &id), ("AWS_SECRET_ACCESS_KEY_FILE", &secret)]).await;
    assert_eq!(answer, "0 objects");
    let answer = list_with(&[endpoint, ("AWS_ACCESS_KEY_ID_FILE", &id)]).await;
    assert!(answer.starts_with("no credentials") && answer.contains("AWS_SECRET_ACCESS_KEY_FILE"), "{answer}");
    let missing = [endpoint, ("AWS_ACCESS_KEY_ID_FILE", "/missing/id"), ("AWS_SECRET_ACCESS_KEY_FILE", &secret)];
    let answer = list_with(&missing).await;
    assert!(answer.starts_with("no credentials") && answer.contains("/missing/id"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_told_soon() {
    // The last place where the default chain looks, silent as it is behind most firewalls.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let metadata_service = format!("http://{}", silent.local_addr().expect("its address"));
    let began = Instant::now();
    let answer = list_with(&[
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata_service),
    ])
    .await;
    assert!(answer.starts_with("no credentials"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}

/// What [`lister`] says with these variables and no others.
async fn list_with(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "environment::lister", "--nocapture"]).env_clear();
    command.env("HOME", "/missing").env(URL, "s3://bucket/x").envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("a lister");
    let output = String::from_utf8(output.stdout).expect("text");
    let (_, answer) = output.split_once("answer: ").unwrap_or_else(|| panic!("no answer in {output}"));
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Not a test: lists the repository that the variable names.
#[tokio::test]
async fn lister() {
    let Ok(url) = env::var(URL) else { return };
    let url: RepositoryUrl = url.parse().expect("a URL");
    match list(&url).await {
        Ok(objects) => println!("answer: {objects} objects"),
        Err(StoreError::NoCredentials { cause }) => println!("answer: no credentials: {cause}"),
        Err(error) => println!("answer: {error:?}"),
    }
}

async fn list(url: &RepositoryUrl) -> Result<usize, StoreError> {
    Ok(open(url, &S3Settings::default()).await?.list("").await?.objects.len())
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain path").to_owned()
}
