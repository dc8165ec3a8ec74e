//! `s3s-fs`, an S3 server over a directory, in this process: always at hand, and honest about the protocol. Its
//! conditional create looks first and renames later, so it says nothing about races.
//!
//! It can hold a request back, so that a test kills a process at exactly that point; it can have another time than this
//! machine, or keep it to itself; it can list an object and say that there is none; and it can do without the
//! request that deletes many objects, as some servers do, or take it and do nothing, or only a part; and it can ignore
//! or refuse the condition that an object must be new.

use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};

use hyper::body::Body;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::{SignedDuration, Timestamp};
use s3s::auth::SimpleAuth;
use s3s::dto;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const ACCESS_KEY_ID: &str = "test-key";
const SECRET_ACCESS_KEY: &str = "test-secret";
const BUCKET: &str = "bucket";
const NO_SUCH_KEY: &str = "<Error><Code>NoSuchKey</Code></Error>";
const NOT_IMPLEMENTED: &str = "<Error><Code>NotImplemented</Code></Error>";

pub struct S3s {
    endpoint: String,
    root: TempDir,
    hold: Arc<Mutex<Option<Hold>>>,
    manners: Arc<Mutex<Manners>>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Manners {
    date: Date,
    no_batches: bool,
    conditions: Conditions,
    deaf: bool,
    /// Which one of a batch it deletes before it breaks down.
    breaks: Option<Place>,
    /// What it does not hand out: what has this in its name.
    withheld: Option<String>,
    /// What its listings lack: what has this in its name.
    unlisted: Option<String>,
    /// The credentials may only read.
    read_only: bool,
}

/// What it makes of `If-None-Match`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conditions {
    #[default]
    Obeyed,
    /// It overwrites, and says that all is well.
    Ignored,
    /// It answers 501 and stores nothing.
    Refused,
}

/// One of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    First,
    Last,
}

impl Manners {
    /// Deletes one object of a batch in `bucket` and breaks down.
    async fn break_down(place: Place, batch: hyper::body::Incoming, bucket: &Path) -> hyper::Response<s3s::Body> {
        let batch = String::from_utf8(read(batch).await).expect("XML");
        let mut names = batch.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0));
        let name = match place {
            Place::First => names.next(),
            Place::Last => names.last(),
        };
        std::fs::remove_file(bucket.join(name.expect("a name"))).expect("deleted");
        answer(hyper::StatusCode::INTERNAL_SERVER_ERROR, "")
    }

    /// What it says to such a request instead of doing it.
    fn answer(&self, request: &hyper::Request<hyper::body::Incoming>) -> Option<hyper::Response<s3s::Body>> {
        let path = request.uri().path();
        let refuses = self.conditions == Conditions::Refused && request.headers().contains_key("if-none-match");
        let (status, text) = match request.method().as_str() {
            "PUT" if refuses => (hyper::StatusCode::NOT_IMPLEMENTED, NOT_IMPLEMENTED),
            "POST" if self.deaf => (hyper::StatusCode::OK, "<DeleteResult/>"),
            "POST" if self.no_batches => (hyper::StatusCode::NOT_IMPLEMENTED, NOT_IMPLEMENTED),
            "GET" | "HEAD" if self.withheld.as_ref().is_some_and(|part| path.contains(part)) => {
                (hyper::StatusCode::NOT_FOUND, NO_SUCH_KEY)
            }
            "PUT" if self.read_only => (hyper::StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"),
            _ => return None,
        };
        Some(answer(status, text))
    }
}

/// The files of `s3s-fs`, with or without conditions. Each request signs the condition, so it cannot be taken out before.
struct Files {
    inner: FileSystem,
    manners: Arc<Mutex<Manners>>,
}

/// Passes requests on as they are.
macro_rules! pass {
    ($($name:ident($input:ident) -> $output:ident),* $(,)?) => {
        #[async_trait::async_trait]
        impl S3 for Files {
            $(async fn $name(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                self.inner.$name(request).await
            })*

            async fn list_objects_v2(
                &self,
                request: S3Request<dto::ListObjectsV2Input>,
            ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
                let unlisted = self.manners.lock().expect("no panic before").unlisted.clone();
                let mut listed = self.inner.list_objects_v2(request).await?;
                let is_hidden = |object: &dto::Object| {
                    let name = object.key.as_deref().unwrap_or_default();
                    unlisted.as_ref().is_some_and(|part| name.contains(part))
                };
                listed.output.contents.iter_mut().for_each(|contents| contents.retain(|object| !is_hidden(object)));
                Ok(listed)
            }

            async fn put_object(
                &self,
                mut request: S3Request<dto::PutObjectInput>,
            ) -> S3Result<S3Response<dto::PutObjectOutput>> {
                if self.manners.lock().expect("no panic before").conditions == Conditions::Ignored {
                    request.input.if_none_match = None;
                }
                self.inner.put_object(request).await
            }
        }
    };
}

pass! {
    get_object(GetObjectInput) -> GetObjectOutput,
    head_object(HeadObjectInput) -> HeadObjectOutput,
    delete_object(DeleteObjectInput) -> DeleteObjectOutput,
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput,
}

fn answer(status: hyper::StatusCode, text: &str) -> hyper::Response<s3s::Body> {
    let mut answer = hyper::Response::new(s3s::Body::from(text.to_owned()));
    *answer.status_mut() = status;
    answer
}

async fn read(mut body: hyper::body::Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        bytes.extend(frame.expect("a request").into_data().unwrap_or_default());
    }
    bytes
}

/// What its answers say about the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Date {
    #[default]
    Right,
    /// So much later than this machine's.
    Off(SignedDuration),
    Silent,
}

impl Date {
    fn header(self) -> Option<String> {
        let off = match self {
            Self::Right => SignedDuration::ZERO,
            Self::Off(off) => off,
            Self::Silent => return None,
        };
        let time = (Timestamp::now() + off).to_zoned(jiff::tz::TimeZone::UTC);
        Some(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
    }
}

/// Where a held request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The server has not seen it.
    Before,
    /// It is done, and the client does not know.
    After,
}

/// A request to hold back.
struct Hold {
    /// Empty: any.
    method: &'static str,
    part: &'static str,
    /// How many like it pass first.
    skip: usize,
    side: Side,
    reached: mpsc::Sender<()>,
    release: oneshot::Receiver<()>,
}

impl Hold {
    async fn wait(self) {
        let _ = self.reached.send(());
        if self.release.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The other end of a hold. Dropped, it never lets the request go on.
pub struct Held {
    reached: mpsc::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Held {
    /// Blocks until a request waits there.
    pub fn reached(&self) {
        self.reached.recv_timeout(super::world::PATIENCE).expect("such a request");
    }

    /// Blocks until a request waits there; `false` where the run ends without one.
    pub fn reached_by(&self, running: &mut super::world::Running) -> bool {
        loop {
            match self.reached.try_recv() {
                Ok(()) => return true,
                Err(_) if !running.is_running() => return false,
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// Whether a request waits there, without waiting for one.
    pub fn is_reached(&self) -> bool {
        self.reached.try_recv().is_ok()
    }

    pub fn release(self) {
        self.release.send(()).expect("a request that waits");
    }
}

impl S3s {
    /// Starts on a free loopback port, in the runtime of the caller.
    pub async fn start() -> Self {
        let root = tempfile::tempdir().expect("a scratch folder");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a bucket");
        let manners = Arc::new(Mutex::new(Manners::default()));
        let inner = FileSystem::new(root.path()).expect("s3s-fs");
        let mut service = S3ServiceBuilder::new(Files { inner, manners: manners.clone() });
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let hold = Arc::new(Mutex::new(None::<Hold>));
        let (holds, mannered, bucket) = (hold.clone(), manners.clone(), root.path().join(BUCKET));
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, holds, mannered) = (service.clone(), holds.clone(), mannered.clone());
                let bucket = bucket.clone();
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (service, holds, bucket) = (service.clone(), holds.clone(), bucket.clone());
                    let manners = mannered.lock().expect("no panic before").clone();
                    async move {
                        let matches = |hold: &mut Hold| {
                            let method = hold.method.is_empty() || *request.method() == *hold.method;
                            let like = method && request.uri().path().contains(hold.part);
                            let passes = like && hold.skip > 0;
                            hold.skip -= usize::from(passes);
                            like && !passes
                        };
                        let mut hold = holds.lock().expect("no panic before").take_if(matches);
                        if let Some(before) = hold.take_if(|hold| hold.side == Side::Before) {
                            before.wait().await;
                        }
                        let mut answer = match manners.answer(&request) {
                            Some(answer) => Ok(answer),
                            None => match manners.breaks.filter(|_| *request.method() == "POST") {
                                Some(place) => Ok(Manners::break_down(place, request.into_body(), &bucket).await),
                                None => Service::call(&service, request).await,
                            },
                        };
                        if let (Ok(answer), Some(date)) = (&mut answer, manners.date.header()) {
                            answer.headers_mut().insert("date", date.parse().expect("a date"));
                        }
                        if let Some(after) = hold {
                            after.wait().await;
                        }
                        answer
                    }
                });
                tokio::spawn(async move {
                    let mut http = auto::Builder::new(TokioExecutor::new());
                    http.http1().auto_date_header(false);
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { endpoint, root, hold, manners, accepting }
    }

    /// Holds the next request back whose method is this and whose path holds `part`.
    pub fn hold(&self, method: &'static str, part: &'static str, side: Side) -> Held {
        self.hold_one(method, part, 0, side)
    }

    /// Holds back the request that comes after so many others, whatever it is.
    pub fn hold_nth(&self, skip: usize, side: Side) -> Held {
        self.hold_one("", "", skip, side)
    }

    fn hold_one(&self, method: &'static str, part: &'static str, skip: usize, side: Side) -> Held {
        let (reached, was_reached) = mpsc::channel();
        let (let_go, release) = oneshot::channel();
        *self.hold.lock().expect("no panic before") = Some(Hold { method, part, skip, side, reached, release });
        Held { reached: was_reached, release: let_go }
    }

    /// Forgets a hold that no request has met.
    pub fn let_all_pass(&self) {
        *self.hold.lock().expect("no panic before") = None;
    }

    pub fn tell_time(&self, date: Date) {
        self.manners.lock().expect("no panic before").date = date;
    }

    /// From now on it takes a request for each object to delete.
    pub fn delete_one_by_one(&self) {
        self.manners.lock().expect("no panic before").no_batches = true;
    }

    /// Whether it takes no notice of `If-None-Match`.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.treat_conditions(if ignore { Conditions::Ignored } else { Conditions::default() });
    }

    /// What it makes of conditions from now on.
    pub fn treat_conditions(&self, conditions: Conditions) {
        self.manners.lock().expect("no panic before").conditions = conditions;
    }

    /// From now on it deletes one of each batch and breaks down.
    pub fn break_in_each_batch(&self, place: Place) {
        self.manners.lock().expect("no panic before").breaks = Some(place);
    }

    /// Whether it says of each batch that all is deleted, and deletes nothing.
    pub fn only_say_that_it_deletes(&self, deaf: bool) {
        self.manners.lock().expect("no panic before").deaf = deaf;
    }

    /// From now on it lists what has `part` in its name, and says that there is no such object; `None`: it hands all out.
    pub fn withhold(&self, part: Option<&str>) {
        self.manners.lock().expect("no panic before").withheld = part.map(str::to_owned);
    }

    /// Its listings lack what has `part` in its name from now on; `None`: they are complete.
    pub fn hide_from_listings(&self, part: Option<&str>) {
        self.manners.lock().expect("no panic before").unlisted = part.map(str::to_owned);
    }

    /// From now on the credentials may only read.
    pub fn allow_reading_only(&self) {
        self.manners.lock().expect("no panic before").read_only = true;
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
