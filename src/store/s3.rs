//! A prefix of an S3 bucket as a store.
//!
//! One request an object, its body in memory, never multipart, at the pace of `s3_body`; SHA-256 in a header, so that a
//! server keeps only what we sent. Create-once is `If-None-Match: *`. A server that ignores that header is found by
//! probing, not here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, SdkError};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumAlgorithm, Delete, Object, ObjectIdentifier};
use bytes::Bytes;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::pace::Pace;
use super::s3_body::{self, BodyError};
use super::s3_client::{Connection, connect, timeouts};
use super::s3_error::{Subject, status};
use super::s3_payload::{Payload, Payloads, checksum};
use super::{Creation, Deletion, Key, Listing, ObjectInfo, Rates, S3Settings, Store, StoreError, Stored, delete_each};
use crate::buffers::Buffers;

/// How often a create is sent that meets another one of the same name in flight (409).
const CREATE_TRIES: u32 = 6;
const CREATE_BACKOFF: Duration = Duration::from_millis(100);

/// How often a download is begun: the SDK repeats a request, but not a body that breaks off.
const GET_TRIES: u32 = 3;

/// As many objects as S3 removes in one request.
const DELETE_BATCH: usize = 1000;

const PRECONDITION_FAILED: u16 = 412;
const CONFLICT: u16 = 409;

/// Objects below a prefix of a bucket.
#[derive(Debug)]
pub struct S3Store {
    connection: Connection,
    bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
    settings: S3Settings,
    upload: Option<Arc<Pace>>,
    download: Option<Pace>,
    payloads: Payloads,
    /// For what is downloaded.
    buffers: Arc<Buffers>,
}

type PutError = SdkError<PutObjectError, aws_sdk_s3::config::http::HttpResponse>;

impl S3Store {
    pub async fn connect(
        bucket: String,
        prefix: Option<Key>,
        settings: &S3Settings,
        rates: Rates,
    ) -> Result<Self, StoreError> {
        let connection = connect(settings).await?;
        let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let upload = rates.upload.map(|rate| Arc::new(Pace::new(rate)));
        let download = rates.download.map(Pace::new);
        Ok(Self {
            connection,
            bucket,
            prefix,
            settings: settings.clone(),
            upload,
            download,
            payloads: Payloads::default(),
            buffers: s3_body::buffers(),
        })
    }

    fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn url(&self, name: &str) -> String {
        format!("s3://{}/{name}", self.bucket)
    }

    fn subject<'a>(&'a self, url: &'a str) -> Subject<'a> {
        let Connection { endpoint, region, .. } = &self.connection;
        Subject { object: url, bucket: &self.bucket, endpoint, region }
    }

    async fn put_once(&self, name: &str, body: &Stored, if_none_match: Option<&str>) -> Result<(), PutError> {
        let payload = self.payloads.sign(body.digest());
        match self.put_as(payload, name, body, if_none_match, None).await {
            Err(error) if self.payloads.refused(payload, status(&error)) => {
                self.put_as(Payload::Signed(body.digest()), name, body, if_none_match, None).await
            }
            done => done,
        }
    }

    /// One request and no other. Its digest is signed: a body without one may be refused, and would need a second.
    async fn put_attempted(&self, name: &str, body: &Stored, if_none_match: Option<&str>) -> Result<(), PutError> {
        let payload = Payload::Signed(body.digest());
        self.put_as(payload, name, body, if_none_match, Some(RetryConfig::disabled())).await
    }

    async fn put_as(
        &self,
        payload: Payload,
        name: &str,
        body: &Stored,
        if_none_match: Option<&str>,
        retries: Option<RetryConfig>,
    ) -> Result<(), PutError> {
        // Many small packs at once would each be slower than its time limit.
        let _share = match &self.upload {
            Some(pace) => pace.share().await,
            None => None,
        };
        let timeouts = timeouts(body.bytes().len(), self.upload.as_deref());
        let mut limits = aws_sdk_s3::config::Builder::new().timeout_config(timeouts);
        limits.set_retry_config(retries);
        let put = self.connection.client.put_object().bucket(&self.bucket).key(name);
        let answer = put
            .checksum_sha256(checksum(body.digest()))
            .set_if_none_match(if_none_match.map(str::to_owned))
            .set_storage_class(self.settings.storage_class.as_deref().map(Into::into))
            .set_server_side_encryption(self.settings.sse.as_deref().map(Into::into))
            .body(s3_body::outgoing(body.bytes(), self.upload.as_ref()))
            .customize()
            .config_override(limits)
            .interceptor(payload)
            .send()
            .await?;
        self.payloads.answered(body.digest(), answer.checksum_sha256());
        Ok(())
    }

    /// What a 412 means: `None` where the object is gone again.
    async fn compare(&self, key: &Key, body: &Bytes) -> Result<Option<Creation>, StoreError> {
        match self.get(key, body.len() as u64).await {
            Ok(there) if there == body => Ok(Some(Creation::Created)),
            Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::AccessDenied { .. }) => {
                Ok(Some(Creation::AlreadyThere))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of a listing, after a name or after the page before, never both: servers differ in which one they go by.
    async fn page(&self, prefix: &str, start: &PageStart) -> Result<(ListObjectsV2Output, Date), StoreError> {
        let date = Date::default();
        let request = self.connection.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let request = match start {
            PageStart::Begin => request,
            PageStart::Name(name) => request.start_after(name),
            PageStart::Page(token) => request.continuation_token(token),
        };
        let page = request.customize().interceptor(date.clone()).send().await;
        let page = page.map_err(|error| self.subject(&self.url(prefix)).explain(error))?;
        Ok((page, date))
    }

    /// Removes at most [`DELETE_BATCH`] objects in one request; what was not removed.
    async fn delete_batch(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        let url = self.url(&self.prefix);
        let object = |key: &Key| ObjectIdentifier::builder().key(self.name(key)).build();
        let objects = keys.iter().map(object).collect::<Result<_, _>>();
        // Not quiet: only the answer about each object says that the bucket keeps versions.
        let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(false).build());
        let delete = delete.map_err(|error| self.subject(&url).other(error.to_string()))?;
        let request = self.connection.client.delete_objects().bucket(&self.bucket).delete(delete);
        // S3 wants a checksum here; SHA-256 is the one that everything else is sent with, too.
        let answer = request.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await;
        let answer = answer.map_err(|error| self.subject(&url).explain(error))?;
        let failed = answer.errors().iter().filter_map(|error| {
            let name = error.key().unwrap_or_default();
            let key = name.strip_prefix(&self.prefix).and_then(|name| Key::new(name).ok())?;
            let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
            Some((key, self.subject(&self.url(name)).explain_code(code, message)?))
        });
        let hidden = answer.deleted().iter().filter(|deleted| deleted.delete_marker() == Some(true)).count();
        Ok(Deletion { failed: failed.collect(), requests: 1, hidden: hidden as u64 })
    }

    /// `None` for names that are no keys: folder markers, and what others put there.
    fn info(&self, object: &Object) -> Result<Option<ObjectInfo>, StoreError> {
        let name = object.key().unwrap_or_default();
        let Some(key) = name.strip_prefix(&self.prefix).and_then(|name| Key::new(name).ok()) else { return Ok(None) };
        let bytes = object.size().and_then(|bytes| u64::try_from(bytes).ok());
        let modified = object.last_modified().and_then(timestamp);
        let (Some(bytes), Some(modified)) = (bytes, modified) else {
            return Err(self.subject(&self.url(name)).other("the server lists it without its size or time"));
        };
        Ok(Some(ObjectInfo { key, bytes, modified, etag: etag(object.e_tag()) }))
    }
}

/// Where a page of a listing begins.
#[derive(Debug, PartialEq, Eq)]
enum PageStart {
    Begin,
    /// After this whole name.
    Name(String),
    /// Where the page before ended, in the server's words.
    Page(String),
}

#[async_trait]
impl Store for S3Store {
    async fn create(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        let name = self.name(key);
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(error) = self.put_once(&name, &body, Some("*")).await else { return Ok(Creation::Created) };
            // A lost answer to a create that succeeded looks like a conflict when the SDK sends it again.
            if status(&error) == Some(PRECONDITION_FAILED)
                && let Some(creation) = self.compare(key, body.bytes()).await?
            {
                return Ok(creation);
            }
            let again = matches!(status(&error), Some(PRECONDITION_FAILED | CONFLICT));
            if !again || tries == CREATE_TRIES {
                return Err(self.subject(&self.url(&name)).explain(error));
            }
            tokio::time::sleep(CREATE_BACKOFF * 2u32.pow(tries - 1)).await;
        }
    }

    async fn create_attempt(&self, key: &Key, body: Stored) -> Result<Creation, StoreError> {
        let name = self.name(key);
        let Err(error) = self.put_attempted(&name, &body, Some("*")).await else { return Ok(Creation::Created) };
        if status(&error) == Some(PRECONDITION_FAILED)
            && let Some(creation) = self.compare(key, body.bytes()).await?
        {
            return Ok(creation);
        }
        Err(self.subject(&self.url(&name)).explain(error))
    }

    async fn put(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        let name = self.name(key);
        let put = self.put_once(&name, &body, None).await;
        put.map_err(|error| self.subject(&self.url(&name)).explain(error))
    }

    async fn put_attempt(&self, key: &Key, body: Stored) -> Result<(), StoreError> {
        let name = self.name(key);
        let put = self.put_attempted(&name, &body, None).await;
        put.map_err(|error| self.subject(&self.url(&name)).explain(error))
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Bytes, StoreError> {
        self.get_and_lock(key, max_bytes).await.map(|(bytes, _)| bytes)
    }

    async fn get_and_lock(&self, key: &Key, max_bytes: u64) -> Result<(Bytes, Option<Timestamp>), StoreError> {
        let name = self.name(key);
        let url = self.url(&name);
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.connection.client.get_object().bucket(&self.bucket).key(&name).send().await;
            let answer = answer.map_err(|error| self.subject(&url).explain(error))?;
            let until = answer.object_lock_retain_until_date().and_then(timestamp);
            match s3_body::read(answer, max_bytes, self.download.as_ref(), &self.buffers).await {
                Ok(bytes) => return Ok((bytes, until)),
                Err(BodyError::TooLarge) => return Err(StoreError::TooLarge { object: url, max_bytes }),
                Err(BodyError::Broken(cause)) if tries == GET_TRIES => {
                    return Err(self.subject(&url).other(format!("the download broke off {tries} times: {cause}")));
                }
                Err(BodyError::Broken(cause)) => tracing::debug!(object = url, cause, "download broke off, again"),
            }
        }
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let name = self.name(key);
        let head = match self.connection.client.head_object().bucket(&self.bucket).key(&name).send().await {
            Ok(head) => head,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(self.subject(&self.url(&name)).explain(error)),
        };
        let bytes = head.content_length().and_then(|bytes| u64::try_from(bytes).ok());
        let modified = head.last_modified().and_then(timestamp);
        let etag = etag(head.e_tag());
        match (bytes, modified) {
            (Some(bytes), Some(modified)) => Ok(Some(ObjectInfo { key: key.clone(), bytes, modified, etag })),
            _ => Err(self.subject(&self.url(&name)).other("the server sends neither its size nor its time")),
        }
    }

    async fn list_from(&self, prefix: &str, start_after: Option<&Key>) -> Result<Listing, StoreError> {
        let full_prefix = format!("{}{prefix}", self.prefix);
        let mut listing = Listing { objects: Vec::new(), server_time: None, pages: 0 };
        // What a name without the prefix means differs between servers: such a name is compared below only.
        let in_request = start_after.filter(|name| name.as_str().starts_with(prefix));
        let mut start = in_request.map_or(PageStart::Begin, |name| PageStart::Name(self.name(name)));
        loop {
            let (page, date) = self.page(&full_prefix, &start).await?;
            listing.pages += 1;
            listing.server_time = date.get();
            for object in page.contents() {
                listing.objects.extend(self.info(object)?);
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            // A server that says "more" and does not move on would hold us here for ever, or hide the rest.
            match page.next_continuation_token.map(PageStart::Page) {
                Some(next) if next != start => start = next,
                _ => return Err(self.subject(&self.url(&full_prefix)).other("the server's listing does not go on")),
            }
        }
        // Not every server goes by `start-after`.
        listing.objects.retain(|object| start_after.is_none_or(|name| object.key > *name));
        listing.objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listing)
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let name = self.name(key);
        match self.connection.client.delete_object().bucket(&self.bucket).key(&name).send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.subject(&self.url(&name)).explain(error) {
                // S3 itself says 204; others say that it is gone.
                StoreError::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Deletion, StoreError> {
        let mut deletion = Deletion::default();
        let mut batches = keys.chunks(DELETE_BATCH);
        while let Some(batch) = batches.next() {
            deletion.requests += 1;
            match self.delete_batch(batch).await {
                Ok(batch) => {
                    deletion.failed.extend(batch.failed);
                    deletion.hidden += batch.hidden;
                }
                // Google's S3 interface has no such request, others want an MD5 with it: then one by one.
                Err(error @ (StoreError::NotSupported { .. } | StoreError::Other { .. })) => {
                    tracing::debug!(%error, "the server removes no batches, so one by one");
                    let rest: Vec<Key> = batch.iter().chain(batches.flatten()).cloned().collect();
                    let one_by_one = delete_each(self, &rest).await?;
                    deletion.failed.extend(one_by_one.failed);
                    deletion.requests += one_by_one.requests;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(deletion)
    }

    fn location(&self) -> String {
        format!("{}/{}/{}", self.connection.endpoint.trim_end_matches('/'), self.bucket, self.prefix)
    }

    async fn locked_until(&self, key: &Key) -> Result<Option<Timestamp>, StoreError> {
        let name = self.name(key);
        match self.connection.client.head_object().bucket(&self.bucket).key(&name).send().await {
            Ok(head) => Ok(head.object_lock_retain_until_date().and_then(timestamp)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.subject(&self.url(&name)).explain(error)),
        }
    }
}

/// Keeps the `Date` header of an answer, which the SDK's outputs leave out.
#[derive(Debug, Clone, Default)]
struct Date(Arc<Mutex<Option<Timestamp>>>);

impl Date {
    fn get(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|date| rfc2822::parse(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.timestamp());
        Ok(())
    }
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// Without the quotes, which not all servers write.
fn etag(etag: Option<&str>) -> Option<String> {
    etag.map(|etag| etag.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty())
}
