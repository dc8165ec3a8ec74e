//! What a repository's server allows, tried on one tiny object.
//!
//! The tiny object has a random name, and is deleted again where these credentials may. Nothing else is written, but
//! for the host's own note of what it found.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::error::OperationError;
use crate::finding::Finding;
use crate::format::{RepositoryId, layout};
use crate::host::{HostState, ServerProfile, WriterLock};
use crate::repository::Remote;
use crate::store::{CreateOnce, Probe, StoreError, probe};

/// Clocks that differ by more are reported.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// What was found.
pub struct Diagnosis {
    pub repository: RepositoryId,
    /// This host's clock when the server was asked.
    pub host_time: Timestamp,
    /// `None` where the server does not send its time.
    pub server_time: Option<Timestamp>,
    /// `None` where these credentials may not write.
    pub probe: Option<Probe>,
    /// Until when the server locks the newest record.
    pub locked_until: Option<Timestamp>,
    /// How this host creates records once; `None` where it is not the writer.
    pub create_once: Option<CreateOnce>,
    pub findings: Vec<Finding>,
}

/// Tries the server of an open repository. `now` is this host's clock.
pub async fn diagnose(
    remote: &Remote,
    state_root: &Path,
    now: impl Fn() -> Timestamp,
) -> Result<Diagnosis, OperationError> {
    let listing = remote.store.list(layout::RECORDS).await?;
    let host_time = now();
    let newest = listing.objects.last().map_or_else(layout::descriptor, |object| object.key.clone());
    let locked_until = remote.store.locked_until(&newest).await?.filter(|until| *until > host_time);
    let probe = match probe(remote.store.as_ref()).await {
        Ok(probe) => Some(probe),
        Err(StoreError::AccessDenied { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let dir = state_root.join(remote.id().as_str());
    let host = HostState::load(&dir)?;
    let mut diagnosis = Diagnosis {
        repository: remote.id().clone(),
        host_time,
        server_time: listing.server_time,
        probe,
        locked_until,
        create_once: host.as_ref().map(HostState::create_once),
        findings: Vec::new(),
    };
    if let (Some(host), Some(may_delete)) = (&host, diagnosis.may_delete())
        && host.may_delete() != Some(may_delete)
    {
        note(&dir, may_delete)?;
    }
    diagnosis.findings = diagnosis.find();
    Ok(diagnosis)
}

/// Remembers the answer for `status`. While a backup runs the host's state is its own: then the next run remembers it.
fn note(dir: &Path, may_delete: bool) -> Result<(), OperationError> {
    let Ok(_lock) = WriterLock::take(dir) else { return Ok(()) };
    if let Some(mut host) = HostState::load(dir)? {
        host.set_server(ServerProfile { may_delete: Some(may_delete), ..host.server().clone() })?;
    }
    Ok(())
}

impl Diagnosis {
    /// Whether these credentials can delete for good; `None` where that was not tried, or there are none.
    pub fn may_delete(&self) -> Option<bool> {
        let may_delete = self.probe.and_then(|probe| probe.may_delete());
        may_delete.map(|may_delete| may_delete && self.locked_until.is_none())
    }

    fn find(&self) -> Vec<Finding> {
        let clock_off =
            self.server_time.filter(|server_time| self.host_time.duration_since(*server_time).abs() > CLOCK_TOLERANCE);
        let ignored = self.probe.is_some_and(|probe| !probe.conditional_put);
        [
            clock_off.map(|server_time| Finding::ClockOff { host_time: self.host_time, server_time }),
            (self.create_once == Some(CreateOnce::Look)).then_some(Finding::SingleWriter {}),
            (self.create_once == Some(CreateOnce::Conditional) && ignored)
                .then_some(Finding::ConditionalPutsIgnored {}),
            (self.create_once.is_some() && self.may_delete() == Some(true)).then_some(Finding::WriterCanDelete {}),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis(
        host: &str,
        server: Option<&str>,
        probe: Option<Probe>,
        create_once: Option<CreateOnce>,
    ) -> Vec<&'static str> {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let diagnosis = Diagnosis {
            repository: RepositoryId::generate(),
            host_time: time(host),
            server_time: server.map(time),
            probe,
            locked_until: None,
            create_once,
            findings: Vec::new(),
        };
        diagnosis.find().iter().map(Finding::code).collect()
    }

    #[test]
    fn clocks_more_than_five_minutes_apart_are_reported_in_both_directions() {
        let noon = "2026-11-30T12:00:00Z";
        let codes = |server| diagnosis(noon, server, None, None);
        assert!(codes(None).is_empty());
        assert!(codes(Some("2026-11-30T12:05:00Z")).is_empty());
        assert!(codes(Some("2026-11-30T11:55:00Z")).is_empty());
        assert_eq!(codes(Some("2026-11-30T12:05:01Z")), ["clock-off"]);
        assert_eq!(codes(Some("2026-11-30T11:54:59Z")), ["clock-off"]);
    }

    #[test]
    fn only_the_writer_hears_of_what_concerns_its_credentials_and_its_mode() {
        let noon = "2026-11-30T12:00:00Z";
        let codes = |conditional_put, delete, kept: bool, create_once| {
            let versions = kept.then_some(true);
            let probe = Probe { conditional_put, delete, versions, credentials: true };
            diagnosis(noon, None, Some(probe), create_once)
        };
        let (conditional, look) = (Some(CreateOnce::Conditional), Some(CreateOnce::Look));
        assert!(codes(true, true, true, conditional).is_empty());
        assert!(codes(true, false, false, conditional).is_empty());
        assert_eq!(codes(true, true, false, conditional), ["writer-can-delete"]);
        assert_eq!(codes(false, false, false, conditional), ["conditional-puts-ignored"]);
        assert_eq!(codes(false, false, false, look), ["single-writer"]);
        assert!(codes(false, true, false, None).is_empty());
        let directory = Probe { conditional_put: true, delete: true, versions: None, credentials: false };
        assert!(diagnosis(noon, None, Some(directory), conditional).is_empty());
    }
}
