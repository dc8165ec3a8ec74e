//! Where a repository is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Key;

/// A directory, or a prefix in a bucket. Its text form reads back as itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// `/path`, `file:///path`, or a path relative to the working directory.
    Directory(PathBuf),
    /// `s3://bucket` or `s3://bucket/prefix`.
    S3 { bucket: String, prefix: Option<Key> },
}

/// Why a text is not a [`RepositoryUrl`]. Texts with credentials in them are not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the repository is empty; it is a directory or s3://bucket/prefix")]
    Empty,
    #[error(
        "the repository \"{url}\" begins with {scheme}; known are a directory, file:///directory and s3://bucket/prefix"
    )]
    Scheme { url: String, scheme: String },
    #[error("the repository \"{0}\" names no bucket; it should be s3://bucket/prefix")]
    NoBucket(String),
    #[error("the repository \"{url}\" has the bucket \"{bucket}\"; a bucket's name has A-Z a-z 0-9 . _ - only")]
    Bucket { url: String, bucket: String },
    #[error("the repository \"{url}\" has a prefix that cannot be used: {cause}")]
    Prefix { url: String, cause: super::KeyError },
    #[error("the repository's URL holds credentials; they belong in the environment or in a profile")]
    Credentials,
    #[error("the repository \"{0}\" is a file URL of another host or with escapes; write the directory's plain path")]
    FileUrl(String),
}

impl FromStr for RepositoryUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        if url.is_empty() {
            return Err(UrlError::Empty);
        }
        if let Some(place) = url.strip_prefix("s3://") {
            return bucket_and_prefix(url, place);
        }
        if let Some(path) = url.strip_prefix("file://") {
            let plain = path.starts_with('/') && !path.contains(['%', '?', '#']);
            return if plain { Ok(Self::Directory(path.into())) } else { Err(UrlError::FileUrl(url.to_owned())) };
        }
        match scheme(url) {
            Some(_) if url.contains('@') => Err(UrlError::Credentials),
            Some(scheme) => Err(UrlError::Scheme { url: url.to_owned(), scheme: scheme.to_owned() }),
            None => Ok(Self::Directory(url.into())),
        }
    }
}

fn bucket_and_prefix(url: &str, place: &str) -> Result<RepositoryUrl, UrlError> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if place.contains('@') {
        return Err(UrlError::Credentials);
    }
    if bucket.is_empty() {
        return Err(UrlError::NoBucket(url.to_owned()));
    }
    if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err(UrlError::Bucket { url: url.to_owned(), bucket: bucket.to_owned() });
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let prefix = if prefix.is_empty() { None } else { Some(Key::new(prefix)) };
    let prefix = prefix.transpose().map_err(|cause| UrlError::Prefix { url: url.to_owned(), cause })?;
    Ok(RepositoryUrl::S3 { bucket: bucket.to_owned(), prefix })
}

/// What stands before `://`, and `s3:` or `file:` with slashes missing: a slip, hardly a directory's name.
fn scheme(url: &str) -> Option<&str> {
    if url.starts_with("s3:") || url.starts_with("file:") {
        return url.split_inclusive(':').next();
    }
    let end = url.find("://")?;
    let name = &url[..end];
    let is_scheme = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (is_scheme && !name.is_empty()).then(|| &url[..end + "://".len()])
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix: None } => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix: Some(prefix) } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<RepositoryUrl, UrlError> {
        url.parse()
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_place() {
        for (url, shown) in [
            ("/srv/backup", "/srv/backup"),
            ("file:///srv/backup", "/srv/backup"),
            ("backup", "backup"),
            ("../back up@home", "../back up@home"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b", "s3://bucket/a/b"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ] {
            let place = parse(url).expect(url);
            assert_eq!(place.to_string(), shown);
            assert_eq!(parse(shown).expect(shown), place);
        }
    }

    #[test]
    fn what_is_no_place_says_why() {
        let url = |text: &str| text.to_owned();
        assert_eq!(parse(""), Err(UrlError::Empty));
        for text in ["s3://", "s3:///prefix"] {
            assert_eq!(parse(text), Err(UrlError::NoBucket(url(text))));
        }
        for (text, scheme) in
            [("http://host/x", "http://"), ("S3://b", "S3://"), ("s3:/b/p", "s3:"), ("file:x", "file:")]
        {
            assert_eq!(parse(text), Err(UrlError::Scheme { url: url(text), scheme: url(scheme) }));
        }
        for text in ["file://host/x", "file://x", "file:///a%20b"] {
            assert_eq!(parse(text), Err(UrlError::FileUrl(url(text))));
        }
        assert!(matches!(parse("s3://b:1/x"), Err(UrlError::Bucket { .. })));
        for text in ["s3://b/a//b", "s3://b/../c", "s3://b/a?x=y"] {
            assert!(matches!(parse(text), Err(UrlError::Prefix { .. })), "{text}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for text in ["s3://KEY:hunter2@bucket/x", "https://KEY:hunter2@host/bucket"] {
            let error = parse(text).expect_err(text);
            assert_eq!(error, UrlError::Credentials);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
