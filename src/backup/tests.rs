//! A whole backup within this process, so that what happens meanwhile and how old its listing is can be chosen.

mod holds;
mod packs;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use age::secrecy::ExposeSecret;

use super::*;
use crate::admin::InitRequest;
use crate::admin::init;
use crate::clock::SystemClock;
use crate::crypto::{IdentityFile, Unprompted};
use crate::events::Unwatched;
use crate::history::{Reader, Selector};
use crate::keys::{Change, RotateRequest, rotate_keys};
use crate::restore::opened::open_with;
use crate::store::{RepositoryUrl, S3Settings, open};

/// A person who can be a recipient.
struct Person(age::x25519::Identity);

impl Person {
    fn new() -> Self {
        Self(age::x25519::Identity::generate())
    }

    fn recipient(&self) -> Recipient {
        Recipient::parse(&self.0.to_public().to_string()).expect("a recipient")
    }

    fn file(&self) -> IdentityFile {
        IdentityFile::parse(self.0.to_string().expose_secret().as_bytes(), "key", &Unprompted).expect("an identity")
    }
}

/// A repository with one file to back up, in a scratch folder.
struct Scratch {
    folder: tempfile::TempDir,
    remote: Remote,
}

impl Scratch {
    async fn sealed_for(person: &Person) -> Self {
        let folder = tempfile::tempdir().expect("scratch");
        let url = RepositoryUrl::Directory(folder.path().join("repository"));
        let store = open(&url, &S3Settings::default()).await.expect("a store");
        let request = InitRequest { recipients: vec![person.recipient()], new_identity: None, single_writer: false };
        init(&store, "scratch", &folder.path().join("host"), request).await.expect("a repository");
        let remote = Remote::open(store, "scratch").await.expect("opened");
        let scratch = Self { folder, remote };
        scratch.write("first");
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("source"), text).expect("written");
    }

    fn state(&self) -> PathBuf {
        self.path("host").join(self.remote.id().as_str())
    }

    fn request(&self) -> BackupRequest {
        let source = SourceSpec { name: "source".to_owned(), path: self.path("source"), kind: SourceKind::File };
        BackupRequest {
            sources: vec![source],
            recipients: Vec::new(),
            host: "host".to_owned(),
            tags: Vec::new(),
            compression: 1,
            threads: 1,
            gentleness: Gentleness::default(),
            wait: Duration::ZERO,
            adopt: false,
            max_compact_bytes: 0,
            clock: Arc::new(SystemClock),
            replace: Vec::new(),
            retention: None,
        }
    }

    async fn backup(&self) -> BackupReport {
        backup(&self.remote, &self.state(), self.request(), Arc::new(Unwatched)).await.expect("a snapshot")
    }

    /// The machine of a person with an identity.
    fn reader(&self, person: &Person) -> Reader {
        Reader { identities: vec![person.file()], state_root: self.path("reader"), ..Reader::default() }
    }

    async fn opens(&self, person: &Person, sequence: u64) -> bool {
        open_with(&self.remote, &Selector::Sequence(sequence), &self.reader(person)).await.is_ok()
    }

    async fn keys(&self) -> Vec<(u32, u32)> {
        self.remote.list_keys().await.expect("listed").into_keys().collect()
    }
}

/// It looks into the bucket once more before it commits, and what it finds there it knows nothing of yet.
#[tokio::test]
async fn a_backup_of_many_hours_continues_with_what_a_rotation_left_and_restores_no_removed_recipient() {
    let (alice, bob) = (Person::new(), Person::new());
    let scratch = Scratch::sealed_for(&alice).await;
    scratch.backup().await;
    scratch.write("second");
    let mut run =
        begin(&scratch.remote, &scratch.state(), scratch.request(), Arc::new(Unwatched)).await.expect("begun");
    run.listing.read = Instant::now().checked_sub(Duration::from_secs(7200)).expect("two hours ago");
    let change = RotateRequest { change: Change::Set(vec![bob.recipient()]), proof: vec![bob.file()] };
    rotate_keys(&scratch.remote, &scratch.reader(&alice), change).await.expect("rotated");
    let mut sequences = vec![1, run.run().await.expect("a snapshot").sequence];
    for text in ["third", "fourth", "fifth"] {
        scratch.write(text);
        sequences.push(scratch.backup().await.sequence);
        assert_eq!(scratch.keys().await, [(1, 2)]);
    }
    for sequence in sequences {
        assert!(scratch.opens(&bob, sequence).await && !scratch.opens(&alice, sequence).await, "{sequence}");
    }
}
