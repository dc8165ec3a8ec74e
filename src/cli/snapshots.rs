//! `sealift snapshots`

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::Snapshots;
use super::context::Context;
use super::failure::Failure;
use super::identities;
use super::keys::BY_COMMENTS;
use super::output::{failure_json, human_age, human_bytes, print_json, print_lines, print_warnings, table};
use super::restore::selector;
use crate::admin::look;
use crate::crypto::Recipient;
use crate::format::ranges::snapshots;
use crate::format::{Body, KeyHolders, Record};
use crate::history::{Drill, History, Listed, StorageUse, Unusable, Verdicts};
use crate::keys::{KeyList, ListedEpoch, keys_of};
use crate::policy::retain::{Plan, Verdict};
use crate::repository::{Listing, is_complete};
use crate::restore::opened::{OpenedSnapshot, open_with};
use crate::retention::retention_plan;

pub async fn run(command: Snapshots, context: Context) -> Result<u8, Failure> {
    match &command.snapshot {
        None => list(&command, &context).await,
        Some(snapshot) => contents(&command, &context, snapshot).await,
    }
}

async fn list(command: &Snapshots, context: &Context) -> Result<u8, Failure> {
    let reader = context.reader(identities::load_any(&command.reader.identity)?)?;
    let (remote, _) = context.remote().await?;
    let (listing, history) = look(&remote, &reader).await?;
    let keys = match reader.identities.is_empty() {
        true => None,
        false => Some(keys_of(&remote, &reader, &history).await?),
    };
    let verdicts = Verdicts::of(&remote, &listing.receipts).await?;
    let plan = retention_plan(&history, &listing, context.config.retention().as_ref());
    let rows = rows(&history, &plan, &verdicts, &listing);
    // A claim of a takeover is an error, after the list that helps to decide about it.
    let claim = history.refuse_claims().err().map(Failure::from);
    if context.global.json {
        let rows: Vec<Value> = rows.iter().map(|row| row.json(keys.as_ref())).collect();
        let mut body = json!({ "snapshots": rows });
        if let Some(claim) = &claim {
            body["error"] = failure_json(claim);
        }
        print_json(body, &history.warnings)?;
        return Ok(claim.map_or_else(|| context.exit_code(&history.warnings), |claim| claim.code));
    }
    print_warnings(&context.global, &history.warnings);
    if rows.is_empty() {
        print_lines(["no snapshot yet".to_owned()])?;
    } else {
        let heading =
            ["SNAPSHOT", "TIME", "AGE", "HEALTH", "NEW", "STORED", "PACKS", "DRILL", "HOST", "TAGS", "RETENTION"];
        let mut cells = vec![heading.map(str::to_owned).to_vec()];
        cells.extend(rows.iter().map(|row| row.cells(history.now)));
        print_lines(table(&cells, &[0, 2, 4, 5, 6]))?;
        print_lines(keys.iter().flat_map(|keys| &keys.epochs).flat_map(readers))?;
    }
    claim.map_or_else(|| Ok(context.exit_code(&history.warnings)), Err)
}

/// Who can open the snapshots of an epoch, and who once could and may have kept its key.
fn readers(epoch: &ListedEpoch) -> Vec<String> {
    let holders = epoch.holders();
    if epoch.snapshots.is_empty() {
        return Vec::new();
    }
    if holders.recipients.is_empty() {
        return vec![String::new(), format!("no given identity opens {}", snapshots(&epoch.snapshots))];
    }
    let names = |recipients: &[Recipient]| {
        recipients.iter().map(|recipient| format!("  {}", recipient.as_str())).collect::<Vec<_>>()
    };
    let mut lines = vec![
        String::new(),
        format!("{} can be opened, as comments in the key files say, by", snapshots(&epoch.snapshots)),
    ];
    lines.extend(names(&holders.recipients));
    if !holders.former.is_empty() {
        lines.push("  and, if they kept the key, by these who were removed".to_owned());
        lines.extend(names(&holders.former));
    }
    lines
}

/// One listed record.
struct Row<'a> {
    sequence: u64,
    record: Result<&'a Record, &'a Unusable>,
    /// When it was taken, as far as its signed time can be believed.
    taken: Option<Timestamp>,
    /// Stored bytes that the snapshots listed before it do not need.
    new_bytes: u64,
    /// What retention would do; it has nothing to say about what cannot be verified.
    retention: Option<&'a Verdict>,
    /// The last drill of it.
    drill: Option<Drill>,
    /// All that it needs is listed with its size.
    restorable: bool,
}

fn rows<'a>(history: &'a History, plan: &'a Plan, verdicts: &Verdicts, listing: &Listing) -> Vec<Row<'a>> {
    let retention: HashMap<u64, &Verdict> = plan.lines.iter().map(|line| (line.sequence, &line.verdict)).collect();
    let (times, mut used) = (history.times(), StorageUse::default());
    let row = |listed: &'a Listed| {
        let signed = listed.record.as_ref().ok();
        Row {
            sequence: listed.sequence,
            record: listed.record.as_ref().map(|signed| &signed.record),
            taken: times.get(&listed.sequence).copied(),
            new_bytes: signed.map_or(0, |signed| used.add(&signed.record)),
            retention: retention.get(&listed.sequence).copied(),
            drill: signed.and_then(|signed| verdicts.drill(signed)),
            restorable: signed.is_some_and(|signed| is_complete(&signed.record, listing)),
        }
    };
    // Retention may have taken one meanwhile.
    let listed = history.listed.iter().filter(|listed| listing.records.contains_key(&listed.sequence));
    listed.map(row).collect()
}

impl Row<'_> {
    /// With `keys`, also who can open it.
    fn json(&self, keys: Option<&KeyList>) -> Value {
        let mut row = self.public_json();
        if let (Some(keys), Ok(record)) = (keys, self.record) {
            let needs = |epoch: &&ListedEpoch| record.epochs.iter().any(|needed| needed.epoch == epoch.epoch);
            let holders: Vec<KeyHolders> = keys.epochs.iter().filter(needs).map(ListedEpoch::holders).collect();
            let names = |of: fn(&KeyHolders) -> &Vec<Recipient>| {
                let all = holders.iter().flat_map(of).map(Recipient::as_str);
                all.collect::<std::collections::BTreeSet<_>>()
            };
            row["recipients"] = json!(names(|holders| &holders.recipients));
            row["former"] = json!(names(|holders| &holders.former));
            row["recipients_from"] = json!(BY_COMMENTS);
        }
        row
    }

    fn public_json(&self) -> Value {
        match self.record {
            Ok(record) => json!({
                "sequence": self.sequence, "time": record.time, "effective_time": self.taken, "host": record.host,
                "health": record.worst_health(), "stored_bytes": record.stored_bytes(),
                "new_bytes": self.new_bytes, "packs": record.packs().count(), "tags": record.tags,
                "epochs": record.epochs.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(),
                "manifest": record.manifest.name, "restorable": self.restorable,
                "drill": self.drill.as_ref().map(drill_json),
                "writer_hold_seconds": record.writer_hold_ms as f64 / 1000.0,
                "keep": self.retention.map(|verdict| matches!(verdict, Verdict::Keep(_))),
                "reasons": match self.retention {
                    Some(Verdict::Keep(reasons)) => json!(reasons),
                    Some(Verdict::Remove(cause)) => json!([cause]),
                    None => json!([]),
                },
            }),
            Err(why) => json!({ "sequence": self.sequence, "problem": why.to_string() }),
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        match self.record {
            Ok(record) => vec![
                self.sequence.to_string(),
                record.time.to_string(),
                human_age(now.duration_since(self.taken.unwrap_or(record.time)).as_secs()),
                if self.restorable { record.worst_health().as_str() } else { "incomplete" }.to_owned(),
                human_bytes(self.new_bytes),
                human_bytes(record.stored_bytes()),
                record.packs().count().to_string(),
                self.drill.as_ref().map(drilled).unwrap_or_default(),
                record.host.clone(),
                record.tags.join(","),
                self.retention(),
            ],
            Err(_) => {
                let mut cells = vec![self.sequence.to_string(), "does not count".to_owned()];
                cells.resize(11, String::new());
                cells
            }
        }
    }

    /// The reasons to keep it, or why it goes.
    fn retention(&self) -> String {
        match self.retention {
            Some(Verdict::Keep(reasons)) => reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Some(Verdict::Remove(cause)) => format!("not kept: {cause}"),
            None => String::new(),
        }
    }
}

fn drill_json(drill: &Drill) -> Value {
    json!({ "passed": drill.passed, "time": drill.time, "signer": drill.signer.fingerprint() })
}

/// The outcome, and the key that signed it.
fn drilled(drill: &Drill) -> String {
    let outcome = if drill.passed { "passed" } else { "FAILED" };
    format!("{outcome} ({})", drill.signer.fingerprint())
}

async fn contents(command: &Snapshots, context: &Context, snapshot: &str) -> Result<u8, Failure> {
    let selector = selector(snapshot)?;
    let reader = context.reader(identities::load(&command.reader.identity)?)?;
    let (remote, _) = context.remote().await?;
    let opened = open_with(&remote, &selector, &reader).await?;
    print_warnings(&context.global, &opened.warnings);
    if context.global.json {
        print_json(contents_json(&opened), &opened.warnings)?;
    } else {
        print_lines(contents_table(&opened))?;
    }
    Ok(context.exit_code(&opened.warnings))
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Inline(_) | Body::Blocks { .. } => "file",
        Body::Database { .. } => "database",
    }
}

fn modified(mtime_ns: i64) -> String {
    Timestamp::from_nanosecond(mtime_ns.into()).map(|time| time.to_string()).unwrap_or_default()
}

fn contents_json(opened: &OpenedSnapshot) -> Value {
    let files = opened.manifest.entries.iter().map(|entry| {
        json!({
            "name": entry.name, "kind": kind(&entry.body), "bytes": entry.bytes, "mode": format!("{:04o}", entry.mode),
            "uid": entry.uid, "gid": entry.gid, "modified": modified(entry.mtime_ns), "digest": entry.digest,
        })
    });
    json!({
        "sequence": opened.record().sequence, "time": opened.record().time, "host": opened.record().host,
        "files": files.collect::<Vec<_>>(),
    })
}

fn contents_table(opened: &OpenedSnapshot) -> Vec<String> {
    let mut cells = vec![["NAME", "KIND", "SIZE", "MODE", "OWNER", "MODIFIED"].map(str::to_owned).to_vec()];
    cells.extend(opened.manifest.entries.iter().map(|entry| {
        vec![
            entry.name.clone(),
            kind(&entry.body).to_owned(),
            human_bytes(entry.bytes),
            format!("{:04o}", entry.mode),
            format!("{}:{}", entry.uid, entry.gid),
            modified(entry.mtime_ns),
        ]
    }));
    table(&cells, &[2])
}
