//! What every command needs: configuration, flags and environment turned into plain values; the open store.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::Global;
use super::failure::Failure;
use super::progress::Progress;
use crate::config::{Config, ConfigError, FILE_NAME};
use crate::crypto::{IdentityFile, PublicSigner};
use crate::events::{Monitor, Unwatched};
use crate::finding::{Finding, Severity};
use crate::format::CreateOnce;
use crate::fsx;
use crate::history::{Reader, open_remote};
use crate::host::HostState;
use crate::repository::Remote;
use crate::store::{self, Look, Meter, Rates, RepositoryUrl, S3Settings, Store};

pub const SYSTEM_CONFIG: &str = "/etc/sealift/sealift.toml";
/// The one thread that reads SQLite's pages keeps no more cores busy than these, and each thread takes memory.
const MAX_THREADS: usize = 8;
const SYSTEM_STATE: &str = "/var/lib/sealift";

pub struct Context {
    pub global: Global,
    pub config: Config,
    /// Where the configuration was read from.
    pub config_path: Option<PathBuf>,
}

impl Context {
    /// With the configuration file, if there is one: restoring needs none.
    pub fn load(global: Global) -> Result<Self, Failure> {
        let config_path = match &global.config {
            Some(path) => Some(path.clone()),
            None => default_config(),
        };
        let config = match &config_path {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        Ok(Self { global, config, config_path })
    }

    /// For `restore`, which must work on the worst day: where the repository is named, a configuration that lies about
    /// and cannot be read is passed over.
    pub fn load_if_sound(global: Global) -> Result<Self, Failure> {
        if global.config.is_some() || global.repository.is_empty() {
            return Self::load(global);
        }
        let config_path = default_config();
        let config = config_path.as_deref().and_then(|path| Config::load(path).ok()).unwrap_or_default();
        Ok(Self { global, config, config_path })
    }

    /// Without it: for `init`, which writes one.
    pub fn unconfigured(global: Global) -> Result<Self, Failure> {
        Ok(Self { global, config: Config::default(), config_path: None })
    }

    /// Where `init` writes the configuration.
    pub fn new_config_path(&self) -> PathBuf {
        let default = || if is_root() { SYSTEM_CONFIG.into() } else { FILE_NAME.into() };
        self.global.config.clone().unwrap_or_else(default)
    }

    pub fn url(&self) -> Result<RepositoryUrl, Failure> {
        let named: Vec<&String> = match self.global.repository.as_slice() {
            [] => self.config.repository.iter().collect(),
            named => named.iter().collect(),
        };
        match named.as_slice() {
            [text] => Ok(text.parse()?),
            [] => Err(Failure::usage(
                "no repository is named",
                "name it with --repository, SEALIFT_REPOSITORY or in sealift.toml",
            )),
            _ => Err(Failure::usage("several repositories are named", "`sealift status` alone takes several at once")),
        }
    }

    /// Whether anything says where the repository is.
    pub fn names_repository(&self) -> bool {
        !self.global.repository.is_empty() || self.config.repository.is_some()
    }

    /// As it is named from anywhere: a directory by its absolute path.
    pub fn absolute_url(&self) -> Result<String, Failure> {
        let url = self.url()?;
        let RepositoryUrl::Directory(path) = &url else { return Ok(url.to_string()) };
        let absolute = fsx::absolute(path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "name an existing place"))?;
        Ok(absolute.display().to_string())
    }

    pub fn state_root(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = self.global.state_dir.as_ref().or(self.config.state_dir.as_ref()) {
            return Ok(dir.clone());
        }
        if is_root() {
            return Ok(SYSTEM_STATE.into());
        }
        user_state().ok_or_else(|| {
            Failure::usage(
                "there is no place to keep state: neither XDG_STATE_HOME nor HOME is set",
                "name one with --state-dir",
            )
        })
    }

    /// Where the host's state may lie on this machine, whatever flags and environment say of this run: where root's
    /// agent and the user of this process keep it by default, and where a configuration says. What cannot be read is a
    /// warning.
    pub fn state_roots_of_hosts(&self) -> (Vec<PathBuf>, Vec<Finding>) {
        let usual = [Some(SYSTEM_STATE.into()), user_state(), self.config.state_dir.clone()];
        let (mut roots, mut warnings): (Vec<PathBuf>, _) = (usual.into_iter().flatten().collect(), Vec::new());
        for path in [FILE_NAME, SYSTEM_CONFIG].map(Path::new) {
            match state_dir_in(path) {
                Ok(named) => roots.extend(named),
                Err(error) => {
                    warnings.push(Finding::HostUnknown { path: path.to_owned(), why: error.to_string() });
                }
            }
        }
        (roots, warnings)
    }

    pub fn s3_settings(&self) -> S3Settings {
        let (flags, file) = (&self.global.s3, &self.config.s3);
        S3Settings {
            endpoint: flags.s3_endpoint.clone().or_else(|| file.endpoint.clone()),
            region: flags.s3_region.clone().or_else(|| file.region.clone()),
            path_style: flags.s3_path_style.or(file.path_style),
            profile: flags.s3_profile.clone().or_else(|| file.profile.clone()),
            storage_class: flags.s3_storage_class.clone().or_else(|| file.storage_class.clone()),
            sse: flags.s3_sse.clone().or_else(|| file.sse.clone()),
            ca_file: flags.s3_ca_file.clone().or_else(|| file.ca_file.clone()),
            credentials: None,
        }
    }

    /// The store, limited and counted.
    pub async fn store(&self) -> Result<(Arc<dyn Store>, Arc<Meter>), Failure> {
        self.store_at(&self.url()?).await
    }

    async fn store_at(&self, url: &RepositoryUrl) -> Result<(Arc<dyn Store>, Arc<Meter>), Failure> {
        let limits = &self.config.limits;
        let rates = Rates { upload: limits.upload, download: limits.download };
        let store = store::open_limited(url, &self.s3_settings(), rates).await?;
        let meter = Arc::new(Meter::new(store));
        Ok((Arc::clone(&meter) as Arc<dyn Store>, meter))
    }

    /// The repository as this machine knows it.
    pub async fn remote(&self) -> Result<(Remote, Arc<Meter>), Failure> {
        self.remote_at(&self.url()?).await
    }

    /// The repository at `url`, with the settings that hold for all.
    pub async fn remote_at(&self, url: &RepositoryUrl) -> Result<(Remote, Arc<Meter>), Failure> {
        let (store, meter) = self.store_at(url).await?;
        let (location, state_root, accept) = (store.location(), self.state_root()?, self.accepted()?);
        let remote =
            open_remote(Arc::clone(&store), &url.to_string(), &location, &state_root, accept.as_deref()).await?;
        // Where a person chose to do without conditional puts, every new object is looked for first.
        let host = HostState::load(&state_root.join(remote.id().as_str()))?;
        let is_look = host.is_some_and(|host| host.create_once() == CreateOnce::Look);
        let store: Arc<dyn Store> = if is_look { Arc::new(Look::new(store)) } else { store };
        Ok((Remote { store, ..remote }, meter))
    }

    /// The fingerprint of the key to accept.
    fn accepted(&self) -> Result<Option<String>, Failure> {
        self.global.accept_signer.as_deref().map(fingerprint).transpose()
    }

    /// What a reader of the repository brings along, apart from `identities`.
    pub fn reader(&self, identities: Vec<IdentityFile>) -> Result<Reader, Failure> {
        Ok(Reader {
            identities,
            signer: self.global.signer.as_deref().map(signer).transpose()?,
            accept: self.accepted()?,
            accept_rollback: self.global.accept_rollback,
            grace: self.config.retention_grace(),
            state_root: self.state_root()?,
        })
    }

    /// Cores to use, 1 to [`MAX_THREADS`].
    pub fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.config.limits.threads.unwrap_or_else(all).get().min(MAX_THREADS)
    }

    pub fn host(&self) -> String {
        self.config.host.clone().unwrap_or_else(machine_name)
    }

    pub fn monitor(&self) -> Arc<dyn Monitor> {
        if self.global.quiet || self.global.no_progress {
            return Arc::new(Unwatched);
        }
        Progress::start(self.global.json)
    }

    /// 0, or 3 where a finding's severity asks for it.
    pub fn exit_code(&self, findings: &[Finding]) -> u8 {
        let least = if self.global.strict { Severity::Warning } else { Severity::Problem };
        let is_problem = findings.iter().any(|finding| finding.severity() >= least);
        if is_problem { super::failure::PROBLEM } else { 0 }
    }
}

/// A signer as a person names it: `ssh-ed25519 AAAA…`, or a file that holds it, such as the one in a recovery kit.
pub fn signer(text: &str) -> Result<PublicSigner, Failure> {
    if text.starts_with("ssh-") {
        return Ok(text.parse()?);
    }
    // The text itself is not repeated: it may be a private key in the wrong place.
    let key = std::fs::read_to_string(text).ok().and_then(|text| text.parse().ok());
    key.ok_or_else(|| {
        Failure::usage(
            "the signer is neither a key nor a file that holds one",
            "give the line `ssh-ed25519 AAAA…` that init printed, or the signer.pub of a recovery kit",
        )
    })
}

/// A fingerprint as a person names it: `SHA256:…`, or the key itself.
fn fingerprint(text: &str) -> Result<String, Failure> {
    match text.strip_prefix("SHA256:") {
        Some(digest) if digest.len() == 43 => Ok(text.to_owned()),
        Some(_) => Err(Failure::usage(
            "a fingerprint is SHA256: and 43 characters",
            "copy it from what `sealift init --take-over` or `sealift snapshots` printed",
        )),
        None => Ok(signer(text)?.fingerprint()),
    }
}

/// The state directory that a configuration in one of the usual places names; fails where such a file cannot be read.
fn state_dir_in(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
    if path.exists() { Ok(Config::load(path)?.state_dir) } else { Ok(None) }
}

fn user_state() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("sealift"))
}

fn default_config() -> Option<PathBuf> {
    [Path::new(FILE_NAME), Path::new(SYSTEM_CONFIG)].into_iter().find(|path| path.exists()).map(Path::to_owned)
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
