//! What a person meets: commands, tables, progress bars, prompts, hints, exit codes.

mod args;
mod backup;
mod check;
mod context;
mod demo;
mod doctor;
mod drill;
mod failure;
mod help;
mod identities;
mod init;
mod keys;
mod lines;
mod markdown;
mod output;
mod progress;
mod recipients;
mod recovery_kit;
mod restore;
mod retain;
mod shell;
mod snapshots;
mod status;
mod takeover;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;

use args::{Args, Command};
use context::Context;
use failure::Failure;

/// How long a write to a disk that is under way may still take after an interruption.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Runs the command line.
pub fn main() -> ExitCode {
    let args = match Args::of_process() {
        Ok(args) => args,
        Err(error) if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            output::print_failure(&Failure::new(failure::USAGE, text), true);
            return ExitCode::from(failure::USAGE);
        }
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    output::start_logging(&args.global);
    let json = args.global.json;
    let code = run(args).unwrap_or_else(|failure| {
        output::print_failure(&failure, json);
        failure.code
    });
    lines::settle();
    ExitCode::from(code)
}

fn run(args: Args) -> Result<u8, Failure> {
    match &args.command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "sealift", &mut text);
            return print_text(&text);
        }
        Command::Man => return print_text(&manual()?),
        Command::Help(help) => return help::run(help),
        Command::Demo(demo) => return demo::run(demo, &args.global),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(failure::FAILED, format!("cannot start: {error}")))?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = dispatch(args) => done,
            _ = interrupted() => Err(Failure::interrupted()),
        }
    });
    // A thread that waits for a busy database is not waited for.
    runtime.shutdown_timeout(LAST_WRITES);
    done
}

async fn dispatch(args: Args) -> Result<u8, Failure> {
    match args.command {
        Command::Init(command) if command.take_over => {
            Box::pin(takeover::run(command, Context::unconfigured(args.global)?)).await
        }
        Command::Init(command) => Box::pin(init::run(command, args.global)).await,
        Command::Backup(command) => backup::run(command, Context::load(args.global)?).await,
        Command::Snapshots(command) => Box::pin(snapshots::run(command, Context::load(args.global)?)).await,
        Command::Restore(command) => restore::run(command, Context::load_if_sound(args.global)?).await,
        Command::Check(command) => check::run(command, Context::load(args.global)?).await,
        Command::Keys(command) => Box::pin(keys::run(command, args.global)).await,
        Command::RecoveryKit(command) => recovery_kit::run(command, Context::load(args.global)?).await,
        Command::Drill(command) => drill::run(command, Context::load_if_sound(args.global)?).await,
        Command::Retain(command) => retain::run(&command, Context::load(args.global)?).await,
        Command::Status(command) => status::run(command, Context::load(args.global)?).await,
        Command::Doctor(command) => doctor::run(command, Context::load(args.global)?).await,
        Command::Demo(_) | Command::Completions { .. } | Command::Man | Command::Help(_) => Ok(0),
    }
}

/// SIGINT, SIGTERM, SIGHUP or SIGQUIT: dropping what runs is safe everywhere, because nothing is listed before it is
/// whole, and takes unfinished restores along.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
    let waits = kinds.map(|kind| {
        Box::pin(async move {
            match signal(kind) {
                Ok(mut signal) => drop(signal.recv().await),
                // One that cannot be caught ends the process by itself.
                Err(_) => std::future::pending().await,
            }
        })
    });
    futures::future::select_all(waits).await;
}

fn print_text(text: &[u8]) -> Result<u8, Failure> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(failure::FAILED, format!("standard output: {error}")))
        }
        _ => Ok(0),
    }
}

/// One page for sealift and one for each command, as man(7) source.
fn manual() -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::new(failure::FAILED, error.to_string());
    let command = Args::command();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text).map_err(failed)?;
    for sub in command.get_subcommands() {
        let name = format!("sealift-{}", sub.get_name());
        clap_mangen::Man::new(sub.clone().name(name)).render(&mut text).map_err(failed)?;
    }
    Ok(text)
}
