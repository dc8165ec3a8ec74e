//! Commands for a person to paste into a shell on another machine.

use std::path::Path;

use super::context::Context;
use crate::crypto::PublicSigner;

/// What a bucket is reached by, apart from the credentials: flags, configuration and the environment put together.
pub struct Bucket {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    /// Certificates of the server's authority.
    pub ca_file: Option<String>,
}

impl Bucket {
    /// `None` for a directory.
    pub fn of(context: &Context, url: &str) -> Option<Self> {
        if !url.starts_with("s3://") {
            return None;
        }
        let settings = context.s3_settings();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self {
            endpoint: settings
                .endpoint
                .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
                .or_else(|| variable("AWS_ENDPOINT_URL")),
            region: settings.region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION")),
            path_style: settings.path_style,
            ca_file: settings.ca_file.as_deref().map(Path::display).map(|file| file.to_string()),
        })
    }

    fn flags(&self) -> String {
        let flags = [
            ("--s3-endpoint", self.endpoint.clone()),
            ("--s3-region", self.region.clone()),
            ("--s3-path-style", self.path_style.map(|own| own.to_string())),
            ("--s3-ca-file", self.ca_file.clone()),
        ];
        flags.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(&value?)))).collect()
    }
}

/// `sealift VERB` with all that it needs to know on a fresh machine, apart from the credentials.
pub fn reader_command(verb: &str, url: &str, bucket: Option<&Bucket>, identity: &str, signer: &PublicSigner) -> String {
    let flags = bucket.map(Bucket::flags).unwrap_or_default();
    let (url, identity) = (quoted(url), quoted(identity));
    format!("sealift {verb} --repository {url}{flags} -i {identity} --signer '{signer}'")
}

/// As a shell takes it for one word.
pub fn quoted(word: &str) -> String {
    let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/:._-+=@~".contains(&byte));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
