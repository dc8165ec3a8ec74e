//! `sealift demo`: the main job, done for real in a scratch directory by the commands that a person would type.

mod backups;
mod child;
mod comeback;
mod random;
mod scratch;
mod story;
mod telling;
mod trinity;
mod writer;

use std::io;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{Demo, Global};
use super::failure::{FAILED, Failure};
use super::output::print_json;
use child::Running;
use scratch::Scratch;
use story::Story;
use telling::Telling;

/// The story runs on a thread of its own, so that this one hears signals.
pub fn run(demo: &Demo, global: &Global) -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::new(FAILED, format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut signals = runtime.block_on(async { signals() }).map_err(failed)?;
    let mut scratch = Scratch::new(demo.dir.as_deref())?;
    let running = Running::default();
    let mut story = Story::new(scratch.path(), running.clone(), Telling::new(global));
    let (tell_end, end) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("story".to_owned()).spawn(move || {
        let outcome = story.tell();
        let _ = tell_end.send(());
        (outcome, story.telling)
    });
    let thread = thread.map_err(failed)?;
    let interrupted = runtime.block_on(async {
        tokio::select! {
            biased;
            () = any(&mut signals) => true,
            _ = end => false,
        }
    });
    if interrupted {
        running.end();
    }
    let joined = thread.join();
    if interrupted {
        return Err(child::interrupted());
    }
    let (outcome, telling) = joined.map_err(|_| kept(&mut scratch, Failure::new(FAILED, "the demo broke down")))?;
    outcome.map_err(
        |failure| if failure.code == child::interrupted().code { failure } else { kept(&mut scratch, failure) },
    )?;
    conclude(global, &mut scratch, &telling)
}

/// Ctrl-C, a polite kill, and a terminal that goes away. From here on none of them ends the process by itself.
fn signals() -> io::Result<[Signal; 3]> {
    Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?])
}

async fn any([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

fn conclude(global: &Global, scratch: &mut Scratch, telling: &Telling) -> Result<u8, Failure> {
    let refuted = telling.refuted().map(|text| Failure::new(FAILED, format!("this does not hold: {text}")));
    let refuted = refuted.map(|failure| kept(scratch, failure));
    if global.json {
        let mut document = telling.document();
        let directory = if scratch.is_kept() { json!(scratch.path()) } else { json!(null) };
        document.insert("directory".to_owned(), directory);
        if let Some(failure) = &refuted {
            let error = json!({ "code": failure.code, "message": failure.message, "hint": failure.hint });
            document.insert("error".to_owned(), error);
        }
        print_json(document.into(), &[])?;
        return Ok(refuted.map_or(0, |failure| failure.code));
    }
    match refuted {
        Some(failure) => Err(failure),
        None => {
            telling.lines(story::next_steps(scratch))?;
            Ok(0)
        }
    }
}

/// What went wrong is worth a look: the scratch directory stays, and is named.
fn kept(scratch: &mut Scratch, failure: Failure) -> Failure {
    let hint = format!("its files are in {}", scratch.keep().display());
    Failure { hint: Some(hint), ..failure }
}
