//! From a repository's URL to its store.

use std::sync::Arc;

use super::local::LocalStore;
use super::s3::S3Store;
use super::{Limit, Rates, RepositoryUrl, S3Settings, Store, StoreError};

/// The store at a URL. Nothing is created, and nothing is asked of a bucket; credentials are looked up (bounded,
/// about 10 seconds), so that missing ones are an error here and not in the middle of something.
///
/// Errors: [`StoreError::NoCredentials`], [`StoreError::Settings`].
pub async fn open(url: &RepositoryUrl, settings: &S3Settings) -> Result<Arc<dyn Store>, StoreError> {
    open_limited(url, settings, Rates::default()).await
}

/// The same, held to these rates.
pub async fn open_limited(
    url: &RepositoryUrl,
    settings: &S3Settings,
    rates: Rates,
) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        RepositoryUrl::Directory(root) => {
            let store = LocalStore::new(root);
            store.sweep().await?;
            let store = Arc::new(store);
            Ok(if rates == Rates::default() { store } else { Arc::new(Limit::new(store, rates)) })
        }
        RepositoryUrl::S3 { bucket, prefix } => {
            Ok(Arc::new(S3Store::connect(bucket.clone(), prefix.clone(), settings, rates).await?))
        }
    }
}
