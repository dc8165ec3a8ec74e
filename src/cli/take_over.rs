//! `sealift init --take-over`

use std::io::Write;

use serde_json::json;

use super::args::{self, Init};
use super::context::Context;
use super::failure::Failure;
use super::identities;
use super::init::{check_config_path, configuration, next_command, warnings, write_config};
use super::keys::{BY_COMMAND, BY_COMMENTS, COMMENTS_PROVE_NOTHING};
use super::output::{human_age, is_interactive, print_json, print_lines, print_warnings};
use super::shell::{Bucket, reader_command};
use crate::admin::{InitReport, TakeOverPlan, plan_take_over};
use crate::clock;
use crate::crypto::Recipient;
use crate::finding::Warning;

pub async fn run(command: Init, context: Context) -> Result<u8, Failure> {
    let config_path = context.new_config_path();
    let mut config = configuration(&command, &context, &[])?;
    config.sources(Some(&config_path))?;
    check_config_path(&config_path, &config)?;
    let flags = args::Reader {
        identity: command.identity.clone(),
        signer: command.signer.clone(),
        accept_signer: command.accept_signer.clone(),
    };
    let reader = context.reader(&flags, identities::load(&command.identity)?)?;
    let (remote, _) = context.remote().await?;
    let plan = plan_take_over(&remote, &reader, command.recipients.parse()?).await?;
    config.recipients = plan.recipients.iter().map(|recipient| recipient.as_str().to_owned()).collect();
    check_config_path(&config_path, &config)?;
    confirm(&command, &context, &plan)?;
    let mut all = plan.warnings.clone();
    let old = (plan.from().to_string(), plan.parent.record.sequence);
    let report = plan.carry_out().await?;
    write_config(&config_path, &config)?;
    all.extend(warnings(&report));
    print_warnings(&context.global, &all);
    show(&command, &context, &report, &old, &all)?;
    Ok(context.told(&reader.state_dir(&remote), &all))
}

/// A person at a terminal sees whose place is taken, for whom will be sealed, and what of that is in doubt. A script says
/// --yes, which is no answer to a doubt.
fn confirm(command: &Init, context: &Context, plan: &TakeOverPlan) -> Result<(), Failure> {
    let doubts: Vec<&str> = plan.doubts.iter().map(|doubt| doubt.text.as_str()).collect();
    if command.yes && doubts.is_empty() {
        return Ok(());
    }
    if command.yes {
        let hint = "name everybody who is to open the backups with -r";
        return Err(Failure::refused(format!("whom to seal for is in doubt: {}", doubts.join("; ")), hint));
    }
    let record = &plan.parent.record;
    let recipients: Vec<&str> = plan.recipients.iter().map(Recipient::as_str).collect();
    if !is_interactive() || context.global.json {
        return Err(Failure::usage(
            format!("a take-over is to be confirmed: backups would be sealed for {}", recipients.join(", ")),
            "run it at a terminal, or add --yes; -r names other recipients",
        ));
    }
    let age = human_age(clock::now().duration_since(record.time).as_secs());
    let lines = [
        format!("This machine takes the place of {} as the writer of {}.", record.host, context.url()?),
        format!("  newest snapshot  {} of {}, {age} old", record.sequence, record.time),
        format!("  signed by        {}", plan.from()),
        format!("  sealed for       {}", recipients.join("\n                   ")),
        "The old host is stopped for good, should it still run. Other recipients are named with -r.".to_owned(),
    ];
    let doubts = doubts.into_iter().map(|doubt| format!("IN DOUBT: {doubt}"));
    let lines = lines.into_iter().chain(where_from(command)).chain(doubts).collect::<Vec<_>>();
    let failed = |error: std::io::Error| Failure::new(super::failure::FAILED, format!("terminal: {error}"));
    let mut err = anstream::stderr();
    writeln!(err, "{}", lines.join("\n")).map_err(failed)?;
    write!(err, "Go on? [y/N] ").and_then(|()| err.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::refused("the take-over was not confirmed", "nothing was changed")),
    }
}

fn where_from(command: &Init) -> Option<String> {
    (!command.recipients.are_named()).then(|| COMMENTS_PROVE_NOTHING.to_owned())
}

fn show(
    command: &Init,
    context: &Context,
    report: &InitReport,
    (from, last): &(String, u64),
    warnings: &[Warning],
) -> Result<(), Failure> {
    let url = context.absolute_url()?;
    let config_path = context.new_config_path();
    let identity = command.identity.first().map_or("IDENTITY".to_owned(), |path| path.display().to_string());
    let restore =
        reader_command("restore", &url, Bucket::of(context, &url).as_ref(), &identity, &report.signer) + " --to DIR";
    let accept = format!("--accept-signer '{}'", report.signer);
    if context.global.json {
        let from_where = if command.recipients.are_named() { BY_COMMAND } else { BY_COMMENTS };
        return print_json(&json!({
            "repository": report.repository, "url": url, "signer": report.signer, "epoch": report.epoch,
            "recipients": report.recipients, "recipients_from": from_where, "config": config_path,
            "restore": restore, "resumed": report.resumed, "took_over": { "from": from, "last": last },
            "accept": accept, "warnings": warnings,
        }));
    }
    let head = [
        format!("repository  {url} ({})", report.repository),
        format!("took over   after snapshot {last} from {from}"),
        format!("signer      {}", report.signer),
        format!("recipients  {}", report.recipients.join("\n            ")),
    ];
    let rest = [
        format!("config      {}", config_path.display()),
        String::new(),
        "Keep this line instead of the one that you have. It brings everything back, old snapshots too:".to_owned(),
        format!("  {restore}"),
        String::new(),
        "Whoever knows the old signer adds this once to restore or snapshots:".to_owned(),
        format!("  {accept}"),
        String::new(),
        format!("Next: {}. The first one uploads everything, and makes the change known", next_command(&config_path)),
        "Then:  sealift recovery-kit DIR: the one that you have names the old signer".to_owned(),
    ];
    print_lines(head.into_iter().chain(where_from(command)).chain(rest))
}
