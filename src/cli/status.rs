//! `sealift status`

use std::path::Path;

use serde_json::{Value, json};

use super::args::Status;
use super::context::{Context, signer};
use super::failure::{Failure, PROBLEM, STALE};
use super::output::{
    failure_json, human_age, human_bytes, human_since, print_json, print_lines, print_warnings, table,
};
use crate::admin::{Drilled, Freshness, Point, StatusRequest, Storage};
use crate::clock;
use crate::finding::Severity;
use crate::history::Reader;
use crate::messages::sentence;
use crate::store::RepositoryUrl;

/// Snapshots that are printed; the JSON document has all.
const MAX_SNAPSHOTS: usize = 7;

/// A repository to look at.
struct Watched {
    url: String,
    signer: Option<String>,
}

/// One that was looked at.
struct Looked {
    url: String,
    status: Result<crate::admin::Status, Failure>,
}

pub async fn run(command: Status, context: Context) -> Result<u8, Failure> {
    let watched = watched(&command, &context)?;
    let is_fleet = command.repositories.is_some() || watched.len() > 1;
    let mut looked = Vec::with_capacity(watched.len());
    for repository in watched {
        let status = look(&command, &context, &repository).await;
        looked.push(Looked { url: repository.url, status });
    }
    if !is_fleet && let Some(one) = looked.pop() {
        let status = one.status?;
        print_warnings(&context.global, &status.warnings);
        match context.global.json {
            true => print_json(document(&one.url, &status), &status.warnings)?,
            false => print_lines(lines(&one.url, &status))?,
        }
        return Ok(code(&context, &status));
    }
    match context.global.json {
        true => {
            let repositories: Vec<Value> = looked.iter().map(Looked::document).collect();
            print_json(json!({ "repositories": repositories }), &[])?;
        }
        false => print_lines(fleet(&looked))?,
    }
    // How bad it is with one that cannot be looked at is unknown.
    let worst = looked.iter().map(|one| (one.status.is_err(), one.code(&context))).max();
    Ok(worst.map_or(0, |(_, code)| code))
}

/// What the file and the flags name, else the one of the configuration.
fn watched(command: &Status, context: &Context) -> Result<Vec<Watched>, Failure> {
    let mut watched = match &command.repositories {
        Some(path) => from_file(path)?,
        None => Vec::new(),
    };
    // A file replaces the environment; repositories on the command line are added to it.
    let ignores = command.repositories.is_some() && context.global.repository_is_of_environment;
    let flags = context.global.repository.iter().filter(|_| !ignores);
    watched.extend(flags.map(|url| Watched { url: url.clone(), signer: None }));
    if watched.is_empty() {
        watched.push(Watched { url: context.url()?.to_string(), signer: None });
    }
    if watched.len() > 1 && (context.global.signer.is_some() || context.global.accept_signer.is_some()) {
        let hint = "put each signing key after its repository in the file of --repositories";
        return Err(Failure::usage("--signer and --accept-signer are of a single repository", hint));
    }
    Ok(watched)
}

/// A repository and perhaps its signer on each line; empty lines and those that begin with # are passed over.
fn from_file(path: &Path) -> Result<Vec<Watched>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "name a file with one URL a line"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let watched = lines.map(|line| {
        let (url, signer) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Watched { url: url.to_owned(), signer: Some(signer.trim().to_owned()).filter(|signer| !signer.is_empty()) }
    });
    let watched: Vec<Watched> = watched.collect();
    match watched.is_empty() {
        true => Err(Failure::usage(format!("{} names no repository", path.display()), "write one URL a line")),
        false => Ok(watched),
    }
}

async fn look(command: &Status, context: &Context, repository: &Watched) -> Result<crate::admin::Status, Failure> {
    let url: RepositoryUrl = repository.url.parse()?;
    let reader = context.reader(Vec::new())?;
    let named = repository.signer.as_deref().map(signer).transpose()?;
    let request =
        StatusRequest { reader: Reader { signer: named.or(reader.signer), ..reader }, max_age: command.max_age };
    let (remote, _) = context.remote_at(&url).await?;
    Ok(crate::admin::status(&remote, &request).await?)
}

/// The exit code, once it was printed.
fn code(context: &Context, status: &crate::admin::Status) -> u8 {
    let code = context.exit_code(&status.warnings);
    match status.freshness {
        Freshness::Stale | Freshness::Missing => STALE,
        Freshness::Problem => PROBLEM,
        Freshness::Fresh => code,
    }
}

fn word(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Fresh => "fresh",
        Freshness::Problem => "PROBLEM",
        Freshness::Stale => "STALE",
        Freshness::Missing => "MISSING",
    }
}

fn document(url: &str, status: &crate::admin::Status) -> Value {
    json!({
        "repository": url, "status": status.freshness, "verdict": status.verdict,
        "newest": status.newest, "newest_good": status.newest_good,
        "newest_drilled": status.newest_drilled.as_ref().map(drilled_json),
        "newest_failed_drill": status.newest_failed.as_ref().map(drilled_json),
        "stored_bytes": status.stored_bytes, "growth_bytes": status.growth_bytes, "snapshots": status.snapshots,
    })
}

fn drilled_json(drilled: &Drilled) -> Value {
    let Drilled { point, drill } = drilled;
    json!({
        "sequence": point.sequence, "time": point.time, "age_seconds": point.age_seconds, "drilled": drill.time,
        "signer": drill.signer.fingerprint(),
    })
}

fn lines(url: &str, status: &crate::admin::Status) -> Vec<String> {
    let point = |point: Option<Point>| match point {
        Some(point) => format!("snapshot {}, {}", point.sequence, human_since(point.age_seconds, "old")),
        None => "none".to_owned(),
    };
    let drilled = status.newest_drilled.as_ref().map_or("none: `sealift drill` does one".to_owned(), drilled_line);
    let mut lines = vec![
        format!("{}: {} ({url})", word(status.freshness), status.verdict),
        format!("  newest good     {}", point(status.newest_good)),
        format!("  newest drilled  {drilled}"),
    ];
    lines.extend(status.newest_failed.as_ref().map(|failed| format!("  drill FAILED    {}", drilled_line(failed))));
    lines.push(format!(
        "  stored          {}, of that {} new within 7 days",
        human_bytes(status.stored_bytes),
        human_bytes(status.growth_bytes)
    ));
    if !status.snapshots.is_empty() {
        lines.extend(storage(&status.snapshots));
    }
    lines
}

/// Which one, when, and by which key.
fn drilled_line(drilled: &Drilled) -> String {
    let ago = human_since(clock::now().duration_since(drilled.drill.time).as_secs(), "ago");
    format!("snapshot {}, {ago}, by {}", drilled.point.sequence, drilled.drill.signer.fingerprint())
}

/// The newest snapshots and what they take.
fn storage(snapshots: &[Storage]) -> Vec<String> {
    let mut cells = vec![["  SNAPSHOT", "AGE", "NEW", "STORED", "GOOD"].map(str::to_owned).to_vec()];
    cells.extend(snapshots.iter().rev().take(MAX_SNAPSHOTS).map(|storage| {
        vec![
            storage.point.sequence.to_string(),
            human_age(storage.point.age_seconds),
            human_bytes(storage.new_bytes),
            human_bytes(storage.stored_bytes),
            if storage.good { "yes" } else { "NO" }.to_owned(),
        ]
    }));
    table(&cells, &[0, 1, 2, 3])
}

impl Looked {
    fn code(&self, context: &Context) -> u8 {
        match &self.status {
            Ok(status) => code(context, status),
            Err(failure) => failure.code,
        }
    }

    fn document(&self) -> Value {
        match &self.status {
            Ok(status) => {
                let mut one = document(&self.url, status);
                one["warnings"] = status.warnings.iter().map(crate::messages::document).collect();
                one
            }
            Err(failure) => json!({
                "repository": self.url, "status": "failed",
                "error": failure_json(failure),
            }),
        }
    }
}

/// A line for each repository, and under them what is wrong.
fn fleet(looked: &[Looked]) -> Vec<String> {
    let heading = ["STATUS", "NEWEST", "GOOD", "DRILLED", "STORED", "7 DAYS", "REPOSITORY"];
    let mut cells = vec![heading.map(str::to_owned).to_vec()];
    let mut notes = Vec::new();
    let age = |point: Option<Point>| point.map_or("-".to_owned(), |point| human_age(point.age_seconds));
    for one in looked {
        cells.push(match &one.status {
            Ok(status) => vec![
                word(status.freshness).to_owned(),
                age(status.newest),
                age(status.newest_good),
                age(status.newest_drilled.as_ref().map(|drilled| drilled.point)),
                human_bytes(status.stored_bytes),
                human_bytes(status.growth_bytes),
                one.url.clone(),
            ],
            Err(_) => vec!["FAILED", "-", "-", "-", "-", "-", &one.url].into_iter().map(str::to_owned).collect(),
        });
        match &one.status {
            Ok(status) if status.freshness != Freshness::Fresh => {
                notes.push(format!("{}: {}", one.url, status.verdict));
            }
            Ok(_) => {}
            Err(failure) => notes.push(format!("{}: {}", one.url, failure.message)),
        }
        if let Ok(status) = &one.status {
            let named = status.warnings.iter().filter(|finding| finding.severity() > Severity::Note);
            notes.extend(named.map(|finding| format!("{}: {} [{}]", one.url, sentence(finding), finding.code())));
        }
    }
    let mut lines = table(&cells, &[1, 2, 3, 4, 5]);
    lines.extend(notes);
    lines
}
