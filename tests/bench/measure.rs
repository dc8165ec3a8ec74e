//! One command as a whole process: wall time, CPU time, and the memory that is its own.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::memory_of;

/// What one run cost.
pub struct Cost {
    pub wall: Duration,
    /// User and system time of the process and of the children that it waited for.
    pub cpu: Duration,
    /// Highest sum of RssAnon and RssShmem seen, in bytes: without the pages of mapped files.
    pub own_memory: u64,
    pub output: Output,
}

/// Waits until everything that was written is on the disk, so that a command waits for its own writes only.
pub fn settle() {
    let synced = Command::new("sync").status().unwrap();
    assert!(synced.success(), "sync: {synced}");
}

/// [`settle`], then [`run`].
pub fn run_settled(command: &mut Command) -> Cost {
    settle();
    run(command)
}

/// Runs `command` to its end, looking at it every few milliseconds.
pub fn run(command: &mut Command) -> Cost {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let (mut own_memory, mut cpu) = (0, Duration::ZERO);
    let status = loop {
        own_memory = own_memory.max(memory_of(pid).unwrap_or(0));
        cpu = cpu_of(pid).unwrap_or(cpu);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = begun.elapsed();
    let join = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| reader.map(|r| r.join().unwrap()).unwrap_or_default();
    Cost { wall, cpu, own_memory, output: Output { status, stdout: join(stdout), stderr: join(stderr) } }
}

fn drain(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// From the process's own account, which is in hundredths of a second on Linux.
fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 =
        stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4).filter_map(|t| t.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 10))
}
