//! The commands of README.md and of the guide do what they say: they are run, line by line, as they stand there.
//!
//! Each section (a heading of the second level) is one bash session in a home of its own, and stops at the first command
//! that fails. `sh` blocks are run, all others are shown only. `sh norun` wants a reason: an HTML comment on the line
//! above.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // A test.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};

const SAMPLE: &str = include_str!("readme/sample.md");
/// Who runs the commands where the tests run as root: a reader's first try is no root's.
const READER: u32 = 1000;
const SESSION_TIMEOUT: Duration = Duration::from_secs(300);
/// Says which line of the page failed: the script's lines are the page's.
const TRAP: &str = r#"trap 'echo "line $LINENO failed: $BASH_COMMAND" >&2' ERR"#;

/// The commands of one section, each on the line on which it stands in the page.
struct Section {
    title: String,
    script: String,
}

/// The sections that have something to run; or what is wrong with the page.
fn sections(page: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<(Section, bool)> =
        vec![(Section { title: "the beginning".to_owned(), script: String::new() }, false)];
    let (mut fence, mut above) = (None, "");
    for (number, line) in (1..).zip(page.lines()) {
        let mut command = "";
        match (fence, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                fence = Some(is_run(info.trim(), above).map_err(|why| format!("line {number}: {why}"))?);
            }
            (Some(_), Some("")) => fence = None,
            (Some(true), _) => command = line,
            (Some(false), _) => {}
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    let script = "\n".repeat(number - 1);
                    sections.push((Section { title: title.to_owned(), script }, false));
                }
            }
        }
        let (section, any) = sections.last_mut().expect("the beginning");
        *any |= !command.is_empty();
        section.script += if number == 1 { TRAP } else { command };
        section.script.push('\n');
        above = line;
    }
    match fence {
        Some(_) => Err("the last block has no end".to_owned()),
        None => Ok(sections.into_iter().filter(|(_, any)| *any).map(|(section, _)| section).collect()),
    }
}

fn is_run(info: &str, above: &str) -> Result<bool, String> {
    match info {
        "sh" => Ok(true),
        "sh norun" if above.trim_start().starts_with("<!--") => Ok(false),
        "sh norun" => Err("`sh norun` wants its reason in an HTML comment on the line above".to_owned()),
        other if other.split_whitespace().any(|word| ["sh", "bash", "shell", "zsh"].contains(&word)) => {
            Err(format!("`{other}`: commands stand in `sh` blocks, so that they are run"))
        }
        _ => Ok(false),
    }
}

/// All of its processes, those in the background too, end with it.
struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Runs a section; what it wrote, if it failed.
fn run(section: &Section) -> Result<(), String> {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (home, programs) = (scratch.path().join("home"), scratch.path().join("bin"));
    for folder in [&home, &programs] {
        fs::create_dir(folder).expect("a folder");
    }
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    // The one that a reader has just built, where the harness names it.
    let built = env::var_os("SEALIFT_TEST_RELEASE").unwrap_or_else(|| env!("CARGO_BIN_EXE_sealift").into());
    bring(Path::new(&built), &programs.join("sealift"));
    if let Some(minio) = env::var_os("SEALIFT_TEST_MINIO") {
        bring(Path::new(&minio), &programs.join("minio"));
    }
    let script = scratch.path().join("README.md");
    fs::write(&script, with_trap(&section.script)).expect("the script");
    let said = scratch.path().join("said");
    let output = File::create(&said).expect("a file");
    let mut command = Command::new("bash");
    command.args(["-eE", "-o", "pipefail"]).arg(&script).current_dir(&home).env_clear();
    command.env("HOME", &home).env("PATH", path_with(&programs)).env("TMPDIR", &home).env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(output.try_clone().expect("a copy")).stderr(output).process_group(0);
    if geteuid().is_root() {
        chown(&home, Some(READER), Some(READER)).expect("a new owner");
        command.uid(READER).gid(READER);
    }
    let status = wait(&mut Session(command.spawn().expect("bash starts")));
    if status == Some(true) {
        return Ok(());
    }
    let why = if status.is_none() { "it took too long\n" } else { "" };
    Err(format!("{}: {why}{}", section.title, fs::read_to_string(said).expect("what it wrote")))
}

/// A section that does not begin the page has an empty first line.
fn with_trap(script: &str) -> String {
    if script.starts_with(TRAP) { script.to_owned() } else { format!("{TRAP}{script}") }
}

/// Whether it succeeded; `None` if it took too long.
fn wait(session: &mut Session) -> Option<bool> {
    let began = Instant::now();
    while began.elapsed() < SESSION_TIMEOUT {
        if let Some(status) = session.0.try_wait().expect("its state") {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Puts a program where any user finds it.
fn bring(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).expect("a copy of the program");
    }
}

fn path_with(first: &Path) -> std::ffi::OsString {
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths([first.to_owned()].into_iter().chain(env::split_paths(&rest))).expect("a PATH")
}

/// Whether the section's programs are here. If not, says so in one line, or fails where nothing may be left out.
fn can_run(section: &Section) -> bool {
    let lacks = section.script.contains("minio ") && env::var_os("SEALIFT_TEST_MINIO").is_none();
    assert!(!lacks || env::var_os("SEALIFT_TEST_REQUIRE").is_none(), "SEALIFT_TEST_MINIO is not set, but required");
    if lacks {
        println!("left out: {} (set SEALIFT_TEST_MINIO, or run tests/run)", section.title);
    }
    !lacks
}

#[track_caller]
fn assert_works(name: &str, sections: &[Section]) {
    assert!(!sections.is_empty(), "{name} shows nothing that can be run");
    for section in sections.iter().filter(|section| can_run(section)) {
        run(section).unwrap_or_else(|why| panic!("{name}, {why}"));
    }
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let page = fs::read_to_string(&path).expect("README.md");
    assert_works("README.md", &sections(&page).expect("a readable README.md"));
}

/// A page of the guide is one session: a person reads it from its beginning.
#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    for (name, _, page) in sealift::guide::TOPICS {
        let page = page.replace("\n## ", "\n### ");
        assert_works(name, &sections(&page).unwrap_or_else(|why| panic!("{name}: {why}")));
    }
}

/// What stands in a sentence is not run. It names commands and flags that exist.
#[test]
fn the_commands_within_sentences_exist() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let guide = sealift::guide::TOPICS.iter().map(|(_, _, page)| (*page).to_owned());
    let pages: Vec<String> = guide.chain([readme]).collect();
    let mut seen = 0;
    for code in pages.iter().flat_map(|page| page.split('`').skip(1).step_by(2)) {
        let Some(line) = code.strip_prefix("sealift ").filter(|line| !line.contains('\n')) else { continue };
        let words: Vec<&str> = line.strip_prefix("help ").unwrap_or(line).split(' ').collect();
        let is_command = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let command = words.iter().take_while(|word| is_command(word) && !word.starts_with('-'));
        let help = Command::new(env!("CARGO_BIN_EXE_sealift")).arg("help").args(command).output().expect("it starts");
        assert!(help.status.success(), "`{code}`: {}", String::from_utf8_lossy(&help.stderr));
        let help = String::from_utf8(help.stdout).expect("text");
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "`{code}`: {flag} is unknown");
        }
        seen += 1;
    }
    assert!(seen > 10, "only {seen} commands were found");
}

#[test]
fn each_section_is_a_session_of_its_own() {
    let sections = sections(SAMPLE).expect("a readable sample");
    let titles: Vec<&str> = sections.iter().map(|section| section.title.as_str()).collect();
    assert_eq!(titles, ["From an empty folder to a restored file", "Another session"]);
    for section in &sections {
        run(section).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn the_first_command_that_fails_ends_the_session_and_is_named_by_its_line() {
    let page = "# Page\n\n## Section\n\n```sh\ntrue\nfalse | true\ntouch never\necho after\n```\n";
    let why = run(&sections(page).unwrap()[0]).unwrap_err();
    assert!(why.contains("Section: line 7 failed"), "{why}");
    assert!(!why.contains("after"), "{why}");
}

#[test]
fn a_page_that_hides_commands_is_refused() {
    let refused = [
        ("```sh norun\nrm\n```\n", "line 1: `sh norun` wants its reason"),
        ("```bash\ntrue\n```\n", "line 1: `bash`"),
        ("text\n\n```sh\ntrue\n", "the last block has no end"),
    ];
    for (page, why) in refused {
        let error = sections(page).err().expect(why);
        assert!(error.starts_with(why), "{error}");
    }
    let allowed = ["<!-- needs AWS -->\n```sh norun\nrm\n```\n", "```console\n$ rm\n```\n", "```text\nrm\n```\n"];
    for page in allowed {
        assert!(sections(page).unwrap().is_empty(), "{page}");
    }
}
