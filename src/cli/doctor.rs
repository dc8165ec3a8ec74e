//! `sealift doctor`

use serde_json::{Value, json};

use super::args::{Doctor, Role};
use super::context::Context;
use super::failure::Failure;
use super::output::{print_json, print_lines, print_warnings, table};
use crate::admin::{Diagnosis, diagnose};
use crate::clock;
use crate::finding::Finding;
use crate::format::layout;
use crate::repository::Remote;
use crate::store::{CreateOnce, RepositoryUrl};

/// What names of the recovery files begin with.
const RECOVERY: [&str; 2] = ["RECOVERY.txt", "recover-*.py"];

pub async fn run(command: Doctor, context: Context) -> Result<u8, Failure> {
    match command.policy {
        Some(role) => show_policy(role, &context),
        None => examine(&context).await,
    }
}

async fn examine(context: &Context) -> Result<u8, Failure> {
    let (remote, server) = context.remote().await?;
    // The server itself: where this host looks before it puts, every server seems to obey conditional puts.
    let remote = Remote { store: server, ..remote };
    let diagnosis = diagnose(&remote, &context.state_root()?, clock::now).await?;
    let warnings: Vec<Finding> = diagnosis.findings.clone();
    let url = context.absolute_url()?;
    if context.global.json {
        print_json(document(&url, &diagnosis), &warnings)?;
    } else {
        print_warnings(&context.global, &warnings);
        print_lines(table(&rows(&url, &diagnosis), &[]))?;
    }
    Ok(context.exit_code(&warnings))
}

fn document(url: &str, diagnosis: &Diagnosis) -> Value {
    json!({
        "url": url,
        "repository": diagnosis.repository,
        "host_time": diagnosis.host_time,
        "server_time": diagnosis.server_time,
        "conditional_put": diagnosis.probe.map(|probe| probe.conditional_put),
        "delete": diagnosis.probe.map(|probe| probe.delete),
        "versions": diagnosis.probe.and_then(|probe| probe.versions),
        "locked_until": diagnosis.locked_until,
        "create_once": diagnosis.create_once,
    })
}

fn rows(url: &str, diagnosis: &Diagnosis) -> Vec<Vec<String>> {
    const NOT_TRIED: &str = "not tried: these credentials may not write";
    let tried = |yes: &str, no: &str, answer: Option<bool>| match answer {
        Some(true) => yes.to_owned(),
        Some(false) => no.to_owned(),
        None => NOT_TRIED.to_owned(),
    };
    let probe = diagnosis.probe;
    let clock = match diagnosis.server_time {
        Some(time) => {
            let seconds = diagnosis.host_time.duration_since(time).as_secs();
            format!("{time}; this host's clock differs by {} s", seconds.abs())
        }
        None => "the server does not send its time".to_owned(),
    };
    let mode = match diagnosis.create_once {
        Some(CreateOnce::Conditional) => "conditional puts",
        Some(CreateOnce::Look) => "single writer: look, put, read back",
        None => "this machine is not the writer",
    };
    let mut rows = vec![
        ("repository", format!("{url} ({}), reachable", diagnosis.repository)),
        ("server's clock", clock),
        ("conditional puts", tried("obeyed", "ignored or refused", probe.map(|probe| probe.conditional_put))),
        ("delete", tried("allowed", "denied", probe.map(|probe| probe.delete))),
        ("old versions", tried("kept", "none seen", probe.map(|probe| probe.versions == Some(true)))),
    ];
    rows.extend(diagnosis.locked_until.map(|until| ("locked", format!("the newest record until {until}"))));
    rows.push(("mode", mode.to_owned()));
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn show_policy(role: Role, context: &Context) -> Result<u8, Failure> {
    let RepositoryUrl::S3 { bucket, prefix } = context.url()? else {
        return Err(Failure::usage(
            "a directory has no policies",
            "give the users of the directory modes: the writer's user owns it, readers may read it",
        ));
    };
    let policy = policy(role, &bucket, prefix.as_ref().map(crate::store::Key::as_str));
    if context.global.json {
        print_json(
            json!({ "policy": policy
            }),
            &[],
        )?;
    } else {
        let text = serde_json::to_string_pretty(&policy);
        print_lines([text.map_err(|error| Failure::new(super::failure::FAILED, error.to_string()))?])?;
    }
    Ok(0)
}

/// What a role may do, and on which objects. All may list.
struct Rights {
    get: Vec<&'static str>,
    put: Vec<&'static str>,
    delete: Vec<&'static str>,
    /// Until when an object is locked.
    locks: bool,
}

fn rights(role: Role) -> Rights {
    let (all, none) = (vec![""], Vec::new);
    let public = || {
        let names = ["repository.json", layout::RECORDS, layout::KEYS, layout::RECEIPTS];
        names.into_iter().chain(RECOVERY).collect()
    };
    match role {
        // It looks whether what it stored is there, and `check` on the host reads it. All of that is encrypted.
        Role::Writer => Rights { get: all.clone(), put: all, delete: none(), locks: false },
        // What the records need is known from them alone.
        Role::Pruner => Rights {
            get: public(),
            put: none(),
            delete: vec![layout::RECORDS, layout::PACKS, layout::MANIFESTS, layout::RECEIPTS],
            locks: true,
        },
        Role::Reader => Rights { get: all, put: vec![layout::RECEIPTS], delete: none(), locks: false },
        Role::Operator => {
            Rights { get: all, put: vec![layout::KEYS, layout::RECEIPTS], delete: vec![layout::KEYS], locks: true }
        }
    }
}

/// The policy for AWS and MinIO.
fn policy(role: Role, bucket: &str, prefix: Option<&str>) -> Value {
    let bucket = format!("arn:aws:s3:::{bucket}");
    let below = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
    let objects = |names: &[&str]| -> Vec<String> {
        // A folder, or everything; all other names are whole.
        let pattern =
            |name: &&str| if name.is_empty() || name.ends_with('/') { format!("{name}*") } else { (*name).to_owned() };
        names.iter().map(|name| format!("{bucket}/{below}{}", pattern(name))).collect()
    };
    let allow = |name: &str, action: &str, names: &[&str]| {
        (!names.is_empty())
            .then(|| json!({ "Sid": name, "Effect": "Allow", "Action": [action], "Resource": objects(names) }))
    };
    let list = |name: &str, condition: Option<Value>| {
        let mut statement =
            json!({ "Sid": name, "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket] });
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statement
    };
    let mut statements = match prefix {
        None => vec![list("List", None)],
        Some(_) => vec![
            list("List", Some(json!({ "StringLike": { "s3:prefix": [format!("{below}*")] } }))),
            // A server says that an object does not exist (404) only to those who may list; others are denied (403). A
            // request for an object names no prefix.
            list("TellMissing", Some(json!({ "Null": { "s3:prefix": "true" } }))),
        ],
    };
    let rights = rights(role);
    statements.extend(allow("Read", "s3:GetObject", &rights.get));
    statements.extend(rights.locks.then(|| allow("Locks", "s3:GetObjectRetention", &rights.delete)).flatten());
    statements.extend(allow("Write", "s3:PutObject", &rights.put));
    statements.extend(allow("Delete", "s3:DeleteObject", &rights.delete));
    json!({ "Version": "2012-10-17", "Statement": statements })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// The resources that a policy allows an action on.
    fn resources(policy: &Value, action: &str) -> Vec<String> {
        let statements = policy["Statement"].as_array().expect("statements").iter();
        statements
            .filter(|statement| statement["Action"][0] == action)
            .flat_map(|statement| statement["Resource"].as_array().expect("resources").clone())
            .map(|resource| resource.as_str().expect("a text").to_owned())
            .collect()
    }

    #[test]
    fn only_pruner_and_operator_may_delete_and_only_the_operator_keys() {
        let deletes = |role| resources(&policy(role, "b", Some("p")), "s3:DeleteObject");
        assert!(deletes(Role::Writer).is_empty() && deletes(Role::Reader).is_empty());
        let pruned = ["snapshots", "packs", "manifests", "receipts"].map(|name| format!("arn:aws:s3:::b/p/{name}/*"));
        assert_eq!(deletes(Role::Pruner), pruned);
        assert_eq!(deletes(Role::Operator), ["arn:aws:s3:::b/p/keys/*"]);
    }

    #[test]
    fn only_the_writer_may_store_snapshots() {
        let puts = |role| resources(&policy(role, "b", Some("p")), "s3:PutObject");
        assert_eq!(puts(Role::Writer), ["arn:aws:s3:::b/p/*"]);
        assert!(puts(Role::Pruner).is_empty());
        assert_eq!(puts(Role::Reader), ["arn:aws:s3:::b/p/receipts/*"]);
        assert_eq!(puts(Role::Operator), ["arn:aws:s3:::b/p/keys/*", "arn:aws:s3:::b/p/receipts/*"]);
    }

    #[test]
    fn a_pruner_reads_no_pack() {
        let gets = resources(&policy(Role::Pruner, "b", None), "s3:GetObject");
        assert!(gets.contains(&"arn:aws:s3:::b/snapshots/*".to_owned()), "{gets:?}");
        assert!(gets.iter().all(|resource| !resource.contains("packs") && resource != "arn:aws:s3:::b/*"), "{gets:?}");
    }

    #[test]
    fn nothing_outside_of_the_prefix_is_named_and_a_listing_is_held_to_it() {
        for role in Role::value_variants() {
            let policy = policy(*role, "b", Some("a/p"));
            for statement in policy["Statement"].as_array().expect("statements") {
                let listing = statement["Action"][0] == "s3:ListBucket";
                assert_eq!(listing, statement["Condition"].is_object(), "{statement}");
                for resource in statement["Resource"].as_array().expect("resources") {
                    let resource = resource.as_str().expect("a text");
                    assert!(resource.starts_with("arn:aws:s3:::b/a/p/") != listing, "{resource}");
                }
            }
            assert_eq!(policy["Statement"][0]["Condition"]["StringLike"]["s3:prefix"], json!(["a/p/*"]));
        }
    }
}
