//! `sealift drill`

use serde_json::{Value, json};

use super::args::Drill;
use super::context::Context;
use super::failure::{Failure, VERIFICATION};
use super::identities;
use super::output::{human_age, human_bytes, print_json, print_lines, print_warnings, table};
use super::restore::selector;
use crate::crypto::PublicSigner;
use crate::store::Key;
use crate::verify::{DatabaseReport, DrillReport, DrillRequest};

/// Tables that are printed for a database; the JSON document has all.
const MAX_TABLES: usize = 10;

pub async fn run(command: Drill, context: Context) -> Result<u8, Failure> {
    let (state_roots, unknown) = context.state_roots_of_hosts();
    let request = DrillRequest {
        snapshot: selector(&command.snapshot)?,
        reader: context.reader(identities::load(&command.reader.identity)?)?,
        dir: command.dir.clone().unwrap_or_else(std::env::temp_dir),
        command: command.command.clone(),
        here: command.here,
        state_roots,
        threads: context.threads(),
    };
    let (remote, _) = context.remote().await?;
    let mut report = crate::verify::drill(&remote, request, context.monitor()).await?;
    report.warnings.extend(unknown.into_iter().filter(|_| !command.here));
    print_warnings(&context.global, &report.warnings);
    if context.global.json {
        print_json(document(&report), &report.warnings)?;
    } else {
        print_lines(lines(&report))?;
    }
    let code = context.exit_code(&report.warnings);
    Ok(if report.passed() { code } else { VERIFICATION })
}

fn document(report: &DrillReport) -> Value {
    let databases = report.databases.iter().map(|database| {
        let tables: serde_json::Map<String, Value> =
            database.tables.iter().map(|(name, rows)| (name.clone(), json!(rows))).collect();
        json!({
            "name": database.name, "tables": tables, "foreign_key_violations": database.foreign_key_violations,
        })
    });
    json!({
        "sequence": report.sequence, "time": report.time, "passed": report.passed(), "failures": report.failures,
        "downloaded_bytes": report.downloaded_bytes, "restored_bytes": report.restored_bytes,
        "databases": databases.collect::<Vec<_>>(), "credentials": report.credentials,
        "command": report.command.map(|status| json!({ "exit_code": status.code() })),
        "recovery_seconds": report.recovery_time.as_secs_f64(),
        "recovery_point_seconds": report.recovery_point.map(|age| age.as_secs()),
        "receipt": report.receipt.as_ref().map(ToString::to_string), "signer": report.signer.fingerprint()
    })
}

fn lines(report: &DrillReport) -> Vec<String> {
    let verdict = if report.passed() { "passed" } else { "FAILED" };
    let mut lines = vec![format!("drill of snapshot {} of {}: {verdict}", report.sequence, report.time)];
    lines.extend(report.failures.iter().map(|failure| format!("  {failure}")));
    if report.restored_bytes > 0 {
        lines.push(format!(
            "  recovery time {:.1} s: {} downloaded, {} restored and verified",
            report.recovery_time.as_secs_f64(),
            human_bytes(report.downloaded_bytes),
            human_bytes(report.restored_bytes)
        ));
        lines.push(match report.recovery_point {
            Some(age) => {
                format!("  recovery point {} ago: later writes would be lost", human_age(age.as_secs()))
            }
            None => "  recovery point unknown: the snapshot's time is in the future".to_owned(),
        });
    }
    lines.extend(report.databases.iter().flat_map(database));
    lines.extend(report.credentials.map(|found| {
        format!("  {} of {} stored credentials open with the key in the restored .env", found.opened, found.stored)
    }));
    lines.extend(report.command.map(|status| format!("  the command ended with {status}")));
    lines.extend(report.receipt.iter().map(|key| receipt_line(key, &report.signer)));
    lines
}

pub fn receipt_line(key: &Key, signer: &PublicSigner) -> String {
    format!("stored {key}, signed by {}", signer.fingerprint())
}

fn database(database: &DatabaseReport) -> Vec<String> {
    let rows: u64 = database.tables.iter().map(|(_, rows)| rows).sum();
    let mut lines = vec![format!("  {}: {} tables, {rows} rows", database.name, database.tables.len())];
    let cells: Vec<Vec<String>> = database
        .tables
        .iter()
        .take(MAX_TABLES)
        .map(|(name, rows)| vec![format!("    {name}"), rows.to_string()])
        .collect();
    lines.extend(table(&cells, &[1]));
    lines
}
