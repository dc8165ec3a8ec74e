//! `sealift help`: the help of a command, or a page of the guide.

use clap::CommandFactory;

use super::args::{Args, Help};
use super::failure::Failure;
use super::markdown;
use super::output::print_lines;
use crate::guide::TOPICS;

/// The widest line of a page, in columns.
const WIDEST: usize = 100;
/// Where there is no terminal.
const USUAL: usize = 80;

pub fn run(help: &Help) -> Result<u8, Failure> {
    if let [word] = help.words.as_slice()
        && let Some((_, _, text)) = TOPICS.iter().find(|(name, ..)| name == word)
    {
        print_lines(markdown::plain(text, width()))?;
        return Ok(0);
    }
    command(&help.words)
}

/// As `sealift COMMAND --help`.
fn command(words: &[String]) -> Result<u8, Failure> {
    let mut found = &Args::command();
    for word in words {
        let next = found.find_subcommand(word);
        found = next.ok_or_else(|| {
            let topics: Vec<&str> = TOPICS.iter().map(|(name, ..)| *name).collect();
            Failure::usage(
                format!("there is no command or topic `{}`", words.join(" ")),
                format!("`sealift help` lists the commands; the topics are {}", topics.join(", ")),
            )
        })?;
    }
    let words = ["sealift"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
    if let Err(shown) = Args::command().try_get_matches_from(words) {
        let _ = shown.print();
    }
    Ok(0)
}

/// The terminal's, at most [`WIDEST`].
fn width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let named = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    terminal.filter(|columns| *columns > 0).or_else(named).unwrap_or(USUAL).min(WIDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_topic_hides_a_command() {
        for (name, summary, text) in TOPICS {
            assert!(Args::command().find_subcommand(name).is_none(), "{name}");
            assert!(!summary.is_empty() && text.starts_with("# "), "{name}");
        }
    }

    #[test]
    fn every_page_fits_into_the_width_that_is_asked_for() {
        for (name, _, text) in TOPICS {
            for width in [60, 80, 100] {
                let lines = markdown::plain(text, width);
                let code = |line: &&String| !line.starts_with("    ");
                let widest = lines.iter().filter(code).map(|line| line.chars().count()).max();
                assert!(widest.is_some_and(|widest| widest <= width), "{name}, {width}: {widest:?}");
            }
        }
    }

    #[test]
    fn the_sentences_of_the_guide_are_short() {
        for (name, _, text) in TOPICS {
            // Every other piece is code.
            let prose = text.split("```").step_by(2).flat_map(|piece| piece.split("\n\n"));
            for paragraph in prose.map(str::trim).filter(|paragraph| !paragraph.starts_with(['|', '#', '<'])) {
                for sentence in paragraph.split(". ").flat_map(|piece| piece.split(".\n")) {
                    let words = sentence.split_whitespace().count();
                    assert!(words <= 25, "{name}: {words} words: {sentence}");
                }
            }
        }
    }
}
