//! How we speak to S3: the settings that hold for every request, and why.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_sdk_s3::Client;
pub use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::config::{
    ProvideCredentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::StoreError;
use super::credentials::SecretFiles;
use super::error::chain;
use super::pace::Pace;

const ATTEMPTS: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For one attempt, in addition to the time that its body gets.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);

/// The slowest upload of one body that is not taken for dead.
const SLOWEST_BYTES_PER_SECOND: usize = 16 * 1024;

/// A download that moves nothing for this long is dead. The default of 20 s has hit slow links.
const STALL_GRACE: Duration = Duration::from_secs(60);

/// The default chain ends with two metadata services that most hosts lack; without a bound that takes half a minute.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

const DEFAULT_REGION: &str = "us-east-1";

/// What `[s3]` and the `--s3-…` flags say. Whatever is `None` comes from the standard AWS variables and profile.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// URL of an S3 server other than AWS.
    pub endpoint: Option<String>,
    /// Without any configured region: `us-east-1`. AWS then names the right one, see [`StoreError::WrongRegion`].
    pub region: Option<String>,
    /// Bucket in the path instead of in the host name; by default so for an own endpoint.
    pub path_style: Option<bool>,
    /// Profile in the AWS configuration and credentials files.
    pub profile: Option<String>,
    /// Such as `STANDARD_IA`; sent as it is.
    pub storage_class: Option<String>,
    /// Server-side encryption: `AES256` or `aws:kms`; sent as it is.
    pub sse: Option<String>,
    /// PEM file with certificate authorities to trust in addition to the system's; `AWS_CA_BUNDLE` otherwise.
    pub ca_file: Option<PathBuf>,
    /// Instead of the default chain. For tests and embedding: a configuration file has no such thing.
    pub credentials: Option<Credentials>,
}

/// A client, and what error messages need to know about it.
#[derive(Debug)]
pub(super) struct Connection {
    pub client: Client,
    pub endpoint: String,
    pub region: String,
}

/// A client for these settings, with credentials at hand.
pub(super) async fn connect(settings: &S3Settings) -> Result<Connection, StoreError> {
    let shared = loader(settings)?.load().await;
    let credentials = shared.credentials_provider().ok_or_else(|| no_credentials("none are configured"))?;
    check_credentials(&credentials).await?;
    let region = shared.region().map_or(DEFAULT_REGION, Region::as_ref).to_owned();
    let own_endpoint = own_endpoint(settings).or_else(|| shared.endpoint_url().map(str::to_owned));
    if let Some(endpoint) = &own_endpoint {
        check_endpoint(endpoint)?;
    }
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(settings.path_style.unwrap_or(own_endpoint.is_some()))
        // Trailing checksums, the SDK's default, break R2, B2 and others; bodies carry their SHA-256 in a header.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let endpoint = own_endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    if endpoint.starts_with("http://") {
        // No certificate is shown there, and reading the system's takes as long as several requests.
        let client = http_client(tls::TrustStore::empty()).map_err(StoreError::Settings)?;
        config = config.http_client(client);
    }
    Ok(Connection { client: Client::from_conf(config.build()), endpoint, region })
}

/// Limits for an attempt that sends a body: a minute, a second for each 16 KiB, and what a limited rate takes.
pub(super) fn timeouts(body_bytes: usize, pace: Option<&Pace>) -> TimeoutConfig {
    let for_body = Duration::from_secs((body_bytes / SLOWEST_BYTES_PER_SECOND) as u64);
    let for_pace = pace.map_or(Duration::ZERO, |pace| pace.time_for_share(body_bytes));
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT + for_body + for_pace)
        .build()
}

fn loader(settings: &S3Settings) -> Result<ConfigLoader, StoreError> {
    let retry = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(MAX_BACKOFF);
    // A slow upload looks stalled to the SDK; the timeout of the attempt bounds it instead.
    let stalls = StalledStreamProtectionConfig::enabled().upload_enabled(false).grace_period(STALL_GRACE).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region(settings))
        .retry_config(retry)
        .timeout_config(timeouts(0, None))
        .stalled_stream_protection(stalls);
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = own_endpoint(settings) {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(file) = settings.ca_file.clone().or_else(|| variable("AWS_CA_BUNDLE").map(PathBuf::from)) {
        loader = loader.http_client(trusting(&file)?);
    }
    if let Some(credentials) = &settings.credentials {
        loader = loader.credentials_provider(credentials.clone());
    } else if let Some(files) = SecretFiles::from_environment() {
        loader = loader.credentials_provider(files);
    } else if ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].into_iter().all(|name| variable(name).is_some()) {
        // The default chain would take these, too, and get ready for all that it does not need then.
        loader = loader.credentials_provider(EnvironmentVariableCredentialsProvider::new());
    }
    Ok(loader)
}

/// The SDK would also ask the metadata service of EC2, which costs seconds where there is none.
fn region(settings: &S3Settings) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &settings.profile {
        profile = profile.profile_name(name);
    }
    RegionProviderChain::first_try(settings.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
        .or_else(Region::new(DEFAULT_REGION))
}

/// The endpoint of the settings or the environment; one in a profile shows only after loading.
fn own_endpoint(settings: &S3Settings) -> Option<String> {
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    settings.endpoint.clone().or_else(|| variables.into_iter().find_map(variable))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn check_endpoint(endpoint: &str) -> Result<(), StoreError> {
    if endpoint.contains('@') {
        return Err(StoreError::Settings(
            "the S3 endpoint holds credentials; they belong in the environment or in a profile".into(),
        ));
    }
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        return Err(StoreError::Settings(format!(
            "the S3 endpoint \"{endpoint}\" is not of the form https://host or http://host:port"
        )));
    }
    Ok(())
}

fn trusting(ca_file: &Path) -> Result<SharedHttpClient, StoreError> {
    let unusable = |cause: String| StoreError::Settings(format!("the CA file {}: {cause}", ca_file.display()));
    let pem = std::fs::read(ca_file).map_err(|error| unusable(error.to_string()))?;
    check_certificates(&pem).map_err(unusable)?;
    http_client(tls::TrustStore::default().with_pem_certificate(pem)).map_err(unusable)
}

/// A client for servers that speak plain HTTP, and for those whose certificate `trust` vouches for.
fn http_client(trust: tls::TrustStore) -> Result<SharedHttpClient, String> {
    let context = tls::TlsContext::builder().with_trust_store(trust).build().map_err(|error| chain(&error))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}

/// The SDK panics at the first connection over certificates that it cannot use.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("it is not in PEM form ({error})"))?;
        roots.add(certificate).map_err(|error| format!("it holds a certificate that cannot be used ({error})"))?;
    }
    if roots.is_empty() { Err("it holds no certificate in PEM form".into()) } else { Ok(()) }
}

async fn check_credentials(provider: &SharedCredentialsProvider) -> Result<(), StoreError> {
    match tokio::time::timeout(CREDENTIALS_TIMEOUT, provider.provide_credentials()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(no_credentials(chain(&error))),
        Err(_) => Err(no_credentials(format!("none were found within {} seconds", CREDENTIALS_TIMEOUT.as_secs()))),
    }
}

fn no_credentials(cause: impl Into<String>) -> StoreError {
    StoreError::NoCredentials { cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_on_a_slow_uplink_has_time() {
        let pack = 16 * 1024 * 1024;
        let attempt = timeouts(pack, None).operation_attempt_timeout();
        assert_eq!(attempt, Some(Duration::from_secs(60 + 1024)));
        // Alone it would take 164 seconds.
        let pace = Pace::new(std::num::NonZeroU64::new(100 * 1024).expect("not zero"));
        let attempt = timeouts(pack, Some(&pace)).operation_attempt_timeout().expect("a limit");
        assert!(attempt > Duration::from_secs(60 + 1024 + 163 * 8), "{attempt:?}");
    }

    #[test]
    fn an_endpoint_with_credentials_is_refused_and_not_repeated() {
        let error = check_endpoint("https://KEY:hunter2@host").expect_err("credentials").to_string();
        assert!(!error.contains("hunter2"));
        for endpoint in ["minio:9000", "https://", "ftp://host", ""] {
            assert!(check_endpoint(endpoint).is_err(), "{endpoint}");
        }
        check_endpoint("http://minio:9000").expect("an endpoint");
    }

    #[test]
    fn a_ca_file_that_would_stop_the_sdk_is_an_error() {
        let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        for (text, why) in [
            ("nothing".to_owned(), "no certificate"),
            (pem("nonsense!!"), "not in PEM form"),
            (pem("AAAA"), "cannot be used"),
        ] {
            let error = check_certificates(text.as_bytes()).expect_err(&text);
            assert!(error.contains(why), "{error}");
        }
    }
}
