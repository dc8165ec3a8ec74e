//! `sealift snapshots`

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::Snapshots;
use super::context::Context;
use super::failure::Failure;
use super::identities;
use super::keys::BY_COMMENTS;
use super::output::{human_age, human_bytes, print_json, print_lines, print_warnings, table};
use super::restore::selector;
use crate::clock;
use crate::crypto::Recipient;
use crate::format::ranges::written;
use crate::format::{Body, KeyHolders, Record};
use crate::history::{Bill, Drill, Driller, History, Listed, Unusable, Verdicts};
use crate::keys::{KeyList, ListedEpoch, keys_of};
use crate::policy::retain::{Plan, Verdict};
use crate::repository::Listing;
use crate::restore::opened::{OpenedSnapshot, open_with};
use crate::retention::retention_plan;

pub async fn run(command: Snapshots, context: Context) -> Result<u8, Failure> {
    match &command.snapshot {
        None => list(&command, &context).await,
        Some(snapshot) => contents(&command, &context, snapshot).await,
    }
}

async fn list(command: &Snapshots, context: &Context) -> Result<u8, Failure> {
    let (remote, _) = context.remote().await?;
    let reader = context.reader(&command.reader, identities::load_any(&command.reader.identity)?)?;
    let history = History::load(&remote, &reader).await?;
    print_warnings(&context.global, &history.warnings);
    let keys = match reader.identities.is_empty() {
        true => None,
        false => Some(keys_of(&remote, &reader, &history).await?),
    };
    let believed = context.config.drill_signers()?;
    let verdicts = Verdicts::load(&remote, &reader, &believed).await?;
    // After the records: whatever they need was stored before them, so it is in this listing.
    let listing = remote.list().await?;
    let plan = retention_plan(&remote, &reader, &history, &listing, context.config.retention(), &believed).await?;
    let rows = rows(&history, &plan, &verdicts, &listing);
    if context.global.json {
        print_json(&rows.iter().map(|row| row.json(keys.as_ref())).collect::<Vec<_>>())?;
    } else if rows.is_empty() {
        print_lines(["no snapshot yet".to_owned()])?;
    } else {
        let now = listing.server_time.unwrap_or_else(clock::now);
        let heading =
            ["SNAPSHOT", "TIME", "AGE", "HEALTH", "NEW", "STORED", "PACKS", "DRILL", "HOST", "TAGS", "RETENTION"];
        let mut cells = vec![heading.map(str::to_owned).to_vec()];
        cells.extend(rows.iter().map(|row| row.cells(now)));
        print_lines(table(&cells, &[0, 2, 4, 5, 6]))?;
        print_lines(keys.iter().flat_map(|keys| &keys.epochs).flat_map(readers))?;
    }
    // The document has no place for warnings.
    Ok(match context.global.json {
        true => context.exit_code(&history.warnings),
        false => context.told(&reader.state_dir(&remote), &history.warnings),
    })
}

/// Who can open the snapshots of an epoch, and who once could and may have kept its key.
fn readers(epoch: &ListedEpoch) -> Vec<String> {
    let holders = epoch.holders();
    if epoch.snapshots.is_empty() {
        return Vec::new();
    }
    if holders.recipients.is_empty() {
        return vec![
            String::new(),
            format!("snapshot {} is not opened by the given identity", written(&epoch.snapshots)),
        ];
    }
    let names = |recipients: &[Recipient]| {
        recipients.iter().map(|recipient| format!("  {}", recipient.as_str())).collect::<Vec<_>>()
    };
    let mut lines = vec![
        String::new(),
        format!("snapshot {} can be opened, comments in its keys say, by", written(&epoch.snapshots)),
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
    /// The last drill, by somebody who is believed here if there is any.
    drill: Option<Drill<'a>>,
    /// It needs something that is missing or was found bad.
    hurt: bool,
}

fn rows<'a>(history: &'a History, plan: &'a Plan, verdicts: &'a Verdicts, listing: &Listing) -> Vec<Row<'a>> {
    let retention: HashMap<u64, &Verdict> = plan.lines.iter().map(|line| (line.sequence, &line.verdict)).collect();
    let (times, mut bill) = (history.times(), Bill::default());
    let row = |listed: &'a Listed| {
        let signed = listed.record.as_ref().ok();
        Row {
            sequence: listed.sequence,
            record: listed.record.as_ref().map(|signed| &signed.record),
            taken: times.get(&listed.sequence).copied(),
            new_bytes: signed.map_or(0, |signed| bill.add(&signed.record)),
            retention: retention.get(&listed.sequence).copied(),
            drill: signed.and_then(|signed| verdicts.drill(signed)),
            hurt: signed.is_some_and(|signed| !verdicts.is_whole(&signed.record, listing)),
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
                "manifest": record.manifest.name, "hurt": self.hurt,
                "drill": self.drill.filter(is_believed).map(drill_json),
                "drill_by_unknown": self.drill.filter(|drill| !is_believed(drill)).map(drill_json),
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
                if self.hurt { "hurt" } else { record.worst_health().as_str() }.to_owned(),
                human_bytes(self.new_bytes),
                human_bytes(record.stored_bytes()),
                record.packs().count().to_string(),
                self.drill.map(drilled).unwrap_or_default(),
                record.host.clone(),
                record.tags.join(","),
                self.retention(),
            ],
            Err(_) => {
                let mut cells = vec![self.sequence.to_string(), "cannot be verified".to_owned()];
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

fn is_believed(drill: &Drill) -> bool {
    drill.driller != Driller::Unknown
}

fn drill_json(drill: Drill) -> Value {
    let Drill { receipt, driller } = drill;
    json!({
        "passed": receipt.receipt.passed, "time": receipt.time(), "driller": receipt.signed.signer(),
        "known": driller == Driller::Known,
    })
}

/// The outcome, and whose word it is where retention does not go by it.
fn drilled(drill: Drill) -> String {
    let outcome = if drill.receipt.receipt.passed { "passed" } else { "FAILED" };
    let whose = match drill.driller {
        Driller::Known => "",
        Driller::Own => ", by this machine",
        Driller::Unknown => ", unknown driller",
    };
    format!("{outcome}{whose}")
}

async fn contents(command: &Snapshots, context: &Context, snapshot: &str) -> Result<u8, Failure> {
    let selector = selector(snapshot)?;
    let reader = context.reader(&command.reader, identities::load(&command.reader.identity)?)?;
    let (remote, _) = context.remote().await?;
    let opened = open_with(&remote, &selector, &reader).await?;
    print_warnings(&context.global, &opened.warnings);
    if context.global.json {
        print_json(&contents_json(&opened))?;
    } else {
        print_lines(contents_table(&opened))?;
    }
    Ok(context.told(&reader.state_dir(&remote), &opened.warnings))
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
        "files": files.collect::<Vec<_>>(), "warnings": opened.warnings,
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
