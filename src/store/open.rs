//! From a repository's URL to its store.

use std::sync::Arc;

use super::local::LocalStore;
use super::s3::S3Store;
use super::{RepositoryUrl, S3Settings, Store, StoreError};

/// The store at a URL. Nothing is created, and nothing is asked of a bucket; credentials are looked up (bounded,
/// about 10 seconds), so that missing ones are an error here and not in the middle of something.
///
/// Errors: [`StoreError::NoCredentials`], [`StoreError::Settings`].
pub async fn open(url: &RepositoryUrl, settings: &S3Settings) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        RepositoryUrl::Directory(root) => {
            let store = LocalStore::new(root);
            store.sweep().await?;
            Ok(Arc::new(store))
        }
        RepositoryUrl::S3 { bucket, prefix } => {
            Ok(Arc::new(S3Store::connect(bucket.clone(), prefix.clone(), settings).await?))
        }
    }
}
