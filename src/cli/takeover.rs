//! `sealift init --take-over`

use std::io::Write;

use serde_json::json;

use super::args::Init;
use super::context::Context;
use super::failure::Failure;
use super::identities;
use super::init::{check_config_path, command_for, configuration, next_command, warnings, write_config};
use super::output::{human_age, is_interactive, print_json, print_lines, print_warnings};
use super::shell::{Bucket, reader_command};
use crate::admin::{InitReport, TakeoverPlan, plan_takeover};
use crate::clock;
use crate::crypto::{PublicSigner, Recipient};
use crate::finding::Finding;

pub async fn run(command: Init, context: Context) -> Result<u8, Failure> {
    let recipients = command.recipients.parse()?;
    if command.yes && recipients.is_empty() {
        return Err(Failure::usage(
            "--yes needs -r: the new recipients have to be named",
            "name every recipient with -r, or run it at a terminal without --yes",
        ));
    }
    let config_path = context.new_config_path();
    let mut config = configuration(&command, &context, &[])?;
    config.sources(Some(&config_path))?;
    check_config_path(&config_path, &config)?;
    let reader = context.reader(identities::load(&command.identity)?)?;
    let (remote, _) = context.remote().await?;
    let plan = plan_takeover(&remote, &reader, recipients).await?;
    config.recipients = plan.recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect();
    check_config_path(&config_path, &config)?;
    confirm(&command, &context, &plan)?;
    let mut all = plan.warnings.clone();
    let old = Old { from: plan.from().clone(), former: plan.former().to_vec(), last: plan.parent.record.sequence };
    let report = plan.carry_out().await?;
    write_config(&config_path, &config)?;
    all.extend(warnings(&report));
    print_warnings(&context.global, &all);
    show(&command, &context, &report, &old, &all)?;
    Ok(context.exit_code(&all))
}

/// The writer before.
struct Old {
    from: PublicSigner,
    former: Vec<PublicSigner>,
    last: u64,
}

/// A person at a terminal sees the host that is replaced and the recipients.
fn confirm(command: &Init, context: &Context, plan: &TakeoverPlan) -> Result<(), Failure> {
    if command.yes {
        return Ok(());
    }
    let record = &plan.parent.record;
    let recipients: Vec<&str> = plan.recipients.iter().map(Recipient::as_str).collect();
    if !is_interactive() || context.global.json {
        return Err(Failure::usage(
            format!("a takeover must be confirmed: the backups would be encrypted to {}", recipients.join(", ")),
            "run it at a terminal, or name the recipients with -r and add --yes",
        ));
    }
    let age = human_age(clock::now().duration_since(record.time).as_secs());
    let source = if plan.is_named { "" } else { " (as the key file says that the identity opens)" };
    let lines = [
        format!("This machine takes the place of {} as the writer of {}.", record.host, context.url()?),
        format!("  newest snapshot  {} of {}, {age} old", record.sequence, record.time),
        format!("  signed by        {}", plan.from()),
        format!("  fingerprint      {}", plan.from().fingerprint()),
        format!("  encrypted to     {}{source}", recipients.join("\n                   ")),
        "The old host can no longer write, if it still runs. -r names other recipients.".to_owned(),
    ];
    let failed = |error: std::io::Error| Failure::new(super::failure::FAILED, format!("terminal: {error}"));
    let mut err = anstream::stderr();
    writeln!(err, "{}", lines.join("\n")).map_err(failed)?;
    write!(err, "Continue? [y/N] ").and_then(|()| err.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::refused("the takeover was not confirmed", "nothing was changed")),
    }
}

fn show(
    command: &Init,
    context: &Context,
    report: &InitReport,
    old: &Old,
    warnings: &[Finding],
) -> Result<(), Failure> {
    let url = context.absolute_url()?;
    let config_path = context.new_config_path();
    let identity = command.identity.first().map_or("IDENTITY".to_owned(), |path| path.display().to_string());
    let restore =
        reader_command("restore", &url, Bucket::of(context, &url).as_ref(), &identity, &report.signer) + " --to DIR";
    let fingerprint = report.signer.fingerprint();
    let comments: Vec<String> =
        [format!("# repository: {}", report.repository), format!("# signer: {}", report.signer)]
            .into_iter()
            .chain(old.former.iter().map(|former| format!("# former signer: {former}")))
            .collect();
    if context.global.json {
        let body = json!({
            "repository": report.repository, "url": url, "signer": report.signer, "fingerprint": fingerprint,
            "epoch": report.epoch, "recipients": report.recipients, "config": config_path, "restore": restore,
            "resumed": report.resumed, "took_over": { "from": old.from, "last": old.last }, "comments": comments,
        });
        return print_json(body, warnings);
    }
    let head = [
        format!("repository   {url} ({})", report.repository),
        format!("took over    after snapshot {} from {}", old.last, old.from),
        format!("signer       {}", report.signer),
        format!("fingerprint  {fingerprint}"),
        format!("recipients   {}", report.recipients.join("\n             ")),
        format!("config       {}", config_path.display()),
        String::new(),
        "Keep this line. It restores everything, old snapshots too:".to_owned(),
        format!("  {restore}"),
        String::new(),
        "Machines that know the old signing key accept the new one with".to_owned(),
        format!("  --accept-signer {fingerprint}"),
        "Identity files: replace the lines `# repository` and `# signer` by".to_owned(),
    ];
    let rest = [
        String::new(),
        format!(
            "Next: {}. The first backup uploads everything and makes the takeover known",
            next_command(&config_path)
        ),
        format!(
            "Then: {}. The kit that you have names the old signing key",
            command_for("recovery-kit DIR", &config_path)
        ),
    ];
    print_lines(head.into_iter().chain(comments.into_iter().map(|line| format!("  {line}"))).chain(rest))
}
