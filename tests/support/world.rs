//! A host with something to back up, an operator's identity and a place for a repository, all in one scratch folder; and
//! the built program as a person would run it there, with a clean environment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sealift::crypto::Signer;
use serde_json::Value;
use tempfile::TempDir;

use super::Server;

/// How long a condition may take to come true, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One host. Others with the same repository and the same scratch folder come from [`World::other_host`].
pub struct World {
    folder: Arc<TempDir>,
    host: String,
    pub repository: String,
    variables: Vec<(&'static str, String)>,
}

impl World {
    /// A database in rollback mode and an `.env`, and no repository yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let repository = folder.path().join("repository").display().to_string();
        let world = Self { folder: Arc::new(folder), host: "host".to_owned(), repository, variables: Vec::new() };
        for name in ["app", "empty", "tmp"] {
            fs::create_dir(world.path(name)).expect("a folder");
        }
        let connection = Connection::open(world.database()).expect("a database");
        connection.execute_batch("create table t (id integer primary key, body blob)").expect("a table");
        drop(connection);
        world.add_rows(200);
        fs::set_permissions(world.database(), fs::Permissions::from_mode(0o640)).expect("a mode");
        world.set_environment("TOKEN=first\n");
        world
    }

    /// With a repository, and `identity` as the only one that opens it.
    pub fn ready() -> Self {
        let world = Self::new();
        world.init().exits(0);
        world
    }

    /// With a repository in the bucket of a server.
    pub fn in_bucket(server: &dyn Server) -> Self {
        let world = Self::at(server);
        world.init().exits(0);
        world
    }

    /// The same on a server without conditional puts.
    pub fn in_bucket_of_a_single_writer(server: &dyn Server) -> Self {
        let world = Self::at(server);
        world.init_with(&["--single-writer"]).exits(0);
        world
    }

    fn at(server: &dyn Server) -> Self {
        let mut world = Self::new();
        world.repository = format!("s3://{}/trinity", server.bucket());
        world.variables = vec![
            ("AWS_ENDPOINT_URL", server.endpoint().to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", server.access_key_id().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", server.secret_access_key().to_owned()),
        ];
        world
    }

    /// Another machine: it knows nothing but where the repository is.
    pub fn other_host(&self, name: &str) -> Self {
        Self {
            folder: Arc::clone(&self.folder),
            host: name.to_owned(),
            repository: self.repository.clone(),
            variables: self.variables.clone(),
        }
    }

    pub fn set_variable(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// What is set for the program besides the usual.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn database(&self) -> PathBuf {
        self.path("app/trinity.db")
    }

    pub fn environment(&self) -> PathBuf {
        self.path("app/.env")
    }

    pub fn identity(&self) -> PathBuf {
        self.path("operator.key")
    }

    pub fn config(&self) -> PathBuf {
        self.path(&format!("{}.toml", self.host))
    }

    /// The state directory; inside, one folder a repository.
    pub fn state(&self) -> PathBuf {
        self.path(&format!("{}-state", self.host))
    }

    pub fn state_of_repository(&self) -> PathBuf {
        let mut entries =
            fs::read_dir(self.state()).expect("a state directory").map(|entry| entry.expect("an entry").path());
        entries.find(|path| path.is_dir()).expect("a folder for the repository")
    }

    /// The last look of this host at the whole repository was an hour ago.
    pub fn an_hour_later(&self) {
        let path = self.state_of_repository().join("last.json");
        if let Ok(text) = fs::read_to_string(&path) {
            let mut last: Value = serde_json::from_str(&text).expect("last.json");
            last["listed"] = Value::Null;
            fs::write(&path, last.to_string()).expect("written");
        }
    }

    pub fn init(&self) -> Output {
        self.init_with(&[])
    }

    pub fn init_with(&self, more: &[&str]) -> Output {
        let identity = self.identity().display().to_string();
        let (database, file) = (self.database().display().to_string(), self.environment().display().to_string());
        let usual = ["init", "--database", &database, "--file", &file, "--new-identity", &identity];
        let output = self.sealift(&[&usual[..], &["--no-passphrase", "--json"], more].concat());
        self.drop_rules();
        output
    }

    /// Takes the rules that `init` writes out of the configuration, so that a test starts without any and sets its own.
    fn drop_rules(&self) {
        let Ok(config) = fs::read_to_string(self.config()) else { return };
        fs::write(self.config(), config.replace("[retention]\nkeep_daily = 14\n", "")).expect("written");
    }

    /// The program with the environment of this host and nothing else, its configuration named where there is one.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        command.env_clear().current_dir(self.path("empty")).stdin(Stdio::null());
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.path("empty")).env("TMPDIR", self.path("tmp"));
        command.env("SEALIFT_STATE_DIR", self.state()).env("SEALIFT_REPOSITORY", &self.repository);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command.args(arguments);
        if arguments.first() == Some(&"init") || self.config().exists() {
            command.arg("--config").arg(self.config());
        }
        command
    }

    pub fn sealift(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// The same, not waited for.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, Stdio::piped())
    }

    /// With a standard error of one's own.
    pub fn start_with(&self, arguments: &[&str], stderr: impl Into<Stdio>) -> Running {
        let mut command = self.command(arguments);
        Running(Some(command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts")))
    }

    /// A backup that must succeed; its sequence number.
    pub fn backup(&self) -> u64 {
        self.sealift(&["backup", "--json"]).exits(0).json()["sequence"].as_u64().expect("a number")
    }

    /// Restores into a new folder of the scratch folder, on a machine that has nothing but the identity.
    pub fn restore(&self, snapshot: &str, to: &str) -> Output {
        self.other_host(&format!("reader of {to}")).sealift(&[
            "restore",
            snapshot,
            "-i",
            &self.text("operator.key"),
            "--to",
            &self.text(to),
            "--json",
        ])
    }

    /// Fails unless the snapshot brings back these bytes.
    pub fn assert_restores(&self, snapshot: u64, sources: &Sources) {
        let to = (0..).map(|n| format!("restored-{n}")).find(|to| !self.path(to).exists()).expect("a free name");
        let output = self.restore(&snapshot.to_string(), &to);
        assert!(output.code == 0 || output.code == 3, "{output:?}");
        assert!(fs::read(self.path(&to).join("trinity.db")).expect("restored") == sources.database, "another database");
        assert_eq!(fs::read(self.path(&to).join(".env")).expect("restored"), sources.environment);
    }

    /// The bytes of both sources now.
    pub fn sources(&self) -> Sources {
        let read = |path: PathBuf| fs::read(path).expect("a source");
        Sources { database: read(self.database()), environment: read(self.environment()) }
    }

    /// Rows of random bytes: nothing compresses, and every page is new.
    pub fn add_rows(&self, rows: u32) {
        let connection = Connection::open(self.database()).expect("the database");
        let insert = "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?1)
                      insert into t (body) select randomblob(600) from n";
        connection.execute(insert, [rows]).expect("rows");
    }

    pub fn set_environment(&self, text: &str) {
        fs::write(self.environment(), text).expect("written");
        fs::set_permissions(self.environment(), fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    pub fn record(&self, sequence: u64) -> PathBuf {
        self.path(&format!("repository/snapshots/{sequence:010}.record"))
    }

    /// The JSON of a stored record.
    pub fn record_json(&self, sequence: u64) -> Value {
        let bytes = fs::read(self.record(sequence)).expect("a record");
        serde_json::from_slice(bytes.split(|byte| *byte == b'\n').next().expect("a line")).expect("JSON")
    }

    /// This host's own key, as only it has it.
    pub fn signer(&self) -> Signer {
        let text = fs::read_to_string(self.state_of_repository().join("signer")).expect("a signer");
        Signer::from_openssh(&text).expect("a key")
    }

    /// Puts a record under a number, as the owner of `signer` would, whatever it says.
    pub fn write_record(&self, sequence: u64, record: &Value, signer: &Signer) {
        fs::write(self.record(sequence), signer.sign(&record.to_string()).expect("signed").bytes()).expect("written");
    }

    /// The packs that a snapshot needs.
    pub fn packs(&self, sequence: u64) -> Vec<PathBuf> {
        let record = self.record_json(sequence);
        let packs = record["epochs"]
            .as_array()
            .expect("epochs")
            .iter()
            .flat_map(|epoch| epoch["packs"].as_array().expect("packs"));
        packs.map(|pack| self.path(&format!("repository/packs/{}.age", pack[0].as_str().expect("a name")))).collect()
    }

    pub fn manifest(&self, sequence: u64) -> PathBuf {
        let name = self.record_json(sequence)["manifest"]["name"].as_str().expect("a name").to_owned();
        self.path(&format!("repository/manifests/{name}.age"))
    }
}

/// What both sources held at one time.
#[derive(Clone, PartialEq, Eq)]
pub struct Sources {
    pub database: Vec<u8>,
    pub environment: Vec<u8>,
}

/// What a run left.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Output {
    pub fn of(command: &mut Command) -> Self {
        command.output().expect("the program starts").into()
    }

    /// Fails unless the run ended with this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        let stdout = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.code, code, "standard output: {stdout}\nstandard error: {}", self.stderr);
        self
    }

    /// Fails unless the run said this, on whichever of the two.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.all().contains(text), "{text:?} is not in: {}", self.all());
        self
    }

    /// Everything that it said.
    pub fn all(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned() + &self.stderr
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.stdout);
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error} in {text:?}; {}", self.stderr))
    }

    /// The rows of a list of snapshots.
    #[track_caller]
    pub fn rows(&self) -> Value {
        self.json()["snapshots"].clone()
    }

    /// The codes of what it found.
    pub fn warnings(&self) -> Vec<String> {
        let json = self.json();
        let warnings = json["warnings"].as_array().expect("warnings").iter();
        warnings.map(|warning| warning["code"].as_str().expect("a code").to_owned()).collect()
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        // As a shell tells it: 128 and the signal.
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).expect("an end");
        Self { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

/// A run that is not over. Ended when dropped.
pub struct Running(Option<Child>);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.as_ref().expect("running").id()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.as_mut().expect("running").try_wait().expect("its state").is_none()
    }

    pub fn wait(mut self) -> Output {
        self.0.take().expect("running").wait_with_output().expect("its end").into()
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        let mut child = self.0.take().expect("running");
        child.kill().expect("killed");
        child.wait().expect("its end");
    }

    /// As Ctrl-C does.
    pub fn interrupt(self) -> Output {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Looks again and again until the condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Everything in a folder, by name: mode, owner and bytes.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut tree = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            // A program that runs may have taken it away meanwhile.
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let bytes = if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            tree.insert(path, (metadata.mode(), metadata.uid(), bytes));
        }
    }
    tree
}

pub fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(status.success());
}
