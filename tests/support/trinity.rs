//! A database shaped like Trinity's: a few thousand long execution logs that hold nearly all bytes, and small rows around.
//!
//! Everything comes from a seed, so two runs make the same content. The logs compress about 2.9 to 1 with zstd -3, as real
//! ones do.

#![allow(dead_code)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

const AGENTS: [&str; 12] = [
    "atlas",
    "beacon",
    "cornelius",
    "dispatch",
    "ember",
    "fathom",
    "gauge",
    "harbor",
    "iris",
    "juno",
    "kestrel",
    "lumen",
];
/// Rough bytes that one execution takes, and how many small rows go with it, so that the shares are those seen in the field.
const LOG_MIN: usize = 150_000;
const LOG_SPREAD: u32 = 40_000;
const BYTES_PER_EXECUTION: i64 = 196_000;
const HEALTH_CHECKS_PER_EXECUTION: i64 = 50;
const CHATS_PER_EXECUTION: i64 = 5;
const AUDITS_PER_EXECUTION: i64 = 6;
/// Seconds between two executions, from this instant on.
const EPOCH: i64 = 1_760_000_000;
const INTERVAL: i64 = 90;

/// `trinity.db` of about `megabytes` MB and `.env`, both 0600, in an existing folder.
pub struct Trinity {
    pub database: PathBuf,
    pub environment: PathBuf,
}

/// Makes both. The database is in rollback mode, as Trinity's is.
pub fn generate(folder: &Path, megabytes: u32, seed: u64) -> Trinity {
    let database = folder.join("trinity.db");
    let environment = write_environment(folder, seed);
    let connection = Connection::open(&database).unwrap();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();
    connection
        .execute_batch("pragma synchronous = off; pragma journal_mode = off; pragma cache_size = -65536;")
        .unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute_batch("begin").unwrap();
    let mut writer = Writer::new(&connection, seed);
    writer.settings();
    for number in 0..=i64::from(megabytes) * 1_000_000 / BYTES_PER_EXECUTION {
        writer.execution(number);
    }
    drop(writer);
    connection.execute_batch("commit; pragma journal_mode = delete;").unwrap();
    Trinity { database, environment }
}

/// What a day of use does: the oldest executions go, as many new ones come, with their small rows; agents and schedules
/// are touched. Changes 7 to 9 % of the pages.
pub fn a_days_use(connection: &Connection, seed: u64) {
    let (count, newest): (i64, i64) = connection
        .query_row("select count(*), max(number) from schedule_executions", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let share = (count * 7 / 100).max(1);
    connection.execute_batch("begin immediate").unwrap();
    connection
        .execute(
            "delete from schedule_executions where number in (select number from schedule_executions order by number limit ?1)",
            [share],
        )
        .unwrap();
    let mut writer = Writer::new(connection, seed);
    for number in newest + 1..=newest + share {
        writer.execution(number);
    }
    drop(writer);
    connection.execute("update agent_schedules set last_run_at = ?1", [timestamp(newest + share)]).unwrap();
    connection.execute("update agent_ownership set last_seen_at = ?1", [timestamp(newest + share)]).unwrap();
    connection.execute_batch("commit").unwrap();
}

const SCHEMA: &str = "
create table schema_migrations (name text primary key, applied_at text not null);
create table users (id integer primary key, username text unique not null, password_hash text, role text not null, created_at text not null);
create table agent_ownership (agent_name text primary key, owner_id integer not null references users(id), created_at text not null, last_seen_at text);
create table agent_schedules (id text primary key, agent_name text not null, name text not null, cron_expression text not null,
    message text not null, enabled integer not null default 1, last_run_at text);
create table schedule_executions (number integer primary key, id text unique not null, schedule_id text not null, agent_name text not null,
    status text not null, started_at text not null, completed_at text, duration_ms integer, message text not null,
    response text, error text, cost real, triggered_by text not null, execution_log text);
create index idx_executions_schedule on schedule_executions(schedule_id, started_at);
create index idx_executions_status on schedule_executions(status);
create table chat_messages (id text primary key, agent_name text not null, role text not null, content text not null, timestamp text not null);
create index idx_chat_agent on chat_messages(agent_name, timestamp);
create table agent_health_checks (id text primary key, agent_name text not null, check_type text not null, status text not null,
    cpu_percent real, memory_percent real, latency_ms integer, checked_at text not null);
create index idx_health_agent on agent_health_checks(agent_name, checked_at);
create table system_settings (key text primary key, value text not null, updated_at text not null);
create table audit_log (id integer primary key, actor text not null, action text not null, resource text not null, details text, timestamp text not null);
";

/// Fills tables, each from the seed and the execution's number.
struct Writer<'a> {
    connection: &'a Connection,
    random: Random,
    words: Vec<String>,
    log: String,
}

impl<'a> Writer<'a> {
    fn new(connection: &'a Connection, seed: u64) -> Self {
        // The words are the same whatever the seed: a day later the agents speak the same language.
        let mut dictionary = Random(0x05ea_11f7);
        let words = (0..3000).map(|_| word(&mut dictionary)).collect();
        Self { connection, random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), words, log: String::new() }
    }

    fn settings(&mut self) {
        for number in 0..60 {
            self.insert(
                "insert into schema_migrations values (?1, ?2)",
                params![format!("{number:03}_migration"), timestamp(0)],
            );
            let value = self.hex(24);
            let row = params![format!("setting_{number}"), value, timestamp(0)];
            self.insert("insert into system_settings values (?1, ?2, ?3)", row);
        }
        for (number, agent) in (1i64..).zip(AGENTS) {
            let hash = format!("$2b$12${}", self.hex(26));
            let row = params![number, format!("user{number}"), hash, "user", timestamp(0)];
            self.insert("insert into users values (?1, ?2, ?3, ?4, ?5)", row);
            let row = params![agent, number, timestamp(0)];
            self.insert("insert into agent_ownership values (?1, ?2, ?3, null)", row);
            let row =
                params![format!("sched-{agent}"), agent, format!("{agent} hourly"), "0 * * * *", "Do your rounds."];
            self.insert("insert into agent_schedules values (?1, ?2, ?3, ?4, ?5, 1, null)", row);
        }
    }

    /// One execution with the small rows that come along with it.
    fn execution(&mut self, number: i64) {
        let agent = self.random.pick(AGENTS);
        let length = LOG_MIN + self.random.below(LOG_SPREAD) as usize;
        self.write_log(length, number);
        let (log, response) = (std::mem::take(&mut self.log), self.sentence(40));
        let cost = f64::from(self.random.below(9000)) / 10_000.0;
        let row = params![
            number,
            self.uuid(),
            format!("sched-{agent}"),
            agent,
            "success",
            timestamp(number),
            timestamp(number),
            self.random.below(90_000),
            "Do your rounds.",
            response,
            cost,
            "schedule",
            log
        ];
        self.insert(
            "insert into schedule_executions values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, null, ?11, ?12, ?13)",
            row,
        );
        self.log = log;
        self.small_rows(number);
    }

    fn small_rows(&mut self, number: i64) {
        for _ in 0..HEALTH_CHECKS_PER_EXECUTION {
            let agent = self.random.pick(AGENTS);
            let row = params![
                self.uuid(),
                agent,
                "container",
                "healthy",
                f64::from(self.random.below(1000)) / 10.0,
                f64::from(self.random.below(1000)) / 10.0,
                self.random.below(400),
                timestamp(number)
            ];
            self.insert("insert into agent_health_checks values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row);
        }
        for _ in 0..CHATS_PER_EXECUTION {
            let agent = self.random.pick(AGENTS);
            let length = 20 + self.random.below(200);
            let row = params![self.uuid(), agent, "assistant", self.sentence(length), timestamp(number)];
            self.insert("insert into chat_messages values (?1, ?2, ?3, ?4, ?5)", row);
        }
        for _ in 0..AUDITS_PER_EXECUTION {
            let row = params!["scheduler", "execution.start", self.uuid(), self.sentence(8), timestamp(number)];
            self.insert("insert into audit_log values (null, ?1, ?2, ?3, ?4, ?5)", row);
        }
    }

    /// Lines of JSON as an agent's runtime logs them: roles, tool calls, identifiers, and prose.
    fn write_log(&mut self, length: usize, number: i64) {
        self.log.clear();
        self.log.push('[');
        while self.log.len() < length {
            let (id, tool) = (self.hex(12), self.random.pick(["Bash", "Read", "Edit", "Grep", "WebFetch"]));
            let head = format!(
                "{{\"type\":\"assistant\",\"timestamp\":\"{}\",\"message\":{{\"id\":\"msg_{id}\",\"tool\":\"{tool}\",\"usage\":{},\"text\":\"",
                timestamp(number),
                self.random.below(20_000)
            );
            self.log.push_str(&head);
            for _ in 0..60 + self.random.below(120) {
                // Paths, numbers and hashes among the words are what keeps real logs from compressing any better.
                if self.random.below(9) == 0 {
                    let hex = self.hex(4);
                    self.log.push_str(&hex);
                } else {
                    let word = self.random.skewed(self.words.len());
                    self.log.push_str(&self.words[word]);
                }
                self.log.push(' ');
            }
            self.log.push_str("\"}},\n");
        }
        self.log.push_str("null]");
    }

    fn sentence(&mut self, words: u32) -> String {
        let mut text = String::new();
        for _ in 0..words {
            let word = self.random.skewed(self.words.len());
            text.push_str(&self.words[word]);
            text.push(' ');
        }
        text
    }

    fn uuid(&mut self) -> String {
        let hex = self.hex(16);
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }

    fn hex(&mut self, bytes: usize) -> String {
        self.random.hex(bytes)
    }

    fn insert(&self, sql: &str, row: impl rusqlite::Params) {
        self.connection.prepare_cached(sql).unwrap().execute(row).unwrap();
    }
}

fn word(random: &mut Random) -> String {
    const SYLLABLES: [&str; 40] = [
        "re", "con", "ta", "in", "er", "mi", "sta", "tion", "pro", "ve", "de", "li", "ma", "ing", "ser", "vi", "ce",
        "ex", "pec", "ted", "fi", "le", "un", "der", "com", "pu", "te", "a", "gen", "cy", "log", "ous", "per", "form",
        "out", "put", "sche", "du", "ro", "ble",
    ];
    (0..2 + random.below(3)).map(|_| random.pick(SYLLABLES)).collect()
}

/// RFC 3339, in UTC, of an execution's start. Only the time of day and the day of one long month vary.
fn timestamp(number: i64) -> String {
    let seconds = EPOCH + number * INTERVAL;
    let (day, rest) = (seconds / 86_400 - EPOCH / 86_400, seconds % 86_400);
    format!(
        "2025-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        1 + day / 28 % 12,
        1 + day % 28,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn write_environment(folder: &Path, seed: u64) -> PathBuf {
    let path = folder.join(".env");
    let mut random = Random(seed | 1);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    writeln!(file, "# Trinity\nDATABASE_URL=\nTRINITY_DATA_PATH=./trinity-data").unwrap();
    for name in
        ["CREDENTIAL_ENCRYPTION_KEY", "SECRET_KEY", "AGENT_AUTH_SECRET", "INTERNAL_API_SECRET", "REDIS_PASSWORD"]
    {
        writeln!(file, "{name}={}", random.hex(32)).unwrap();
    }
    writeln!(file, "ADMIN_PASSWORD=\"a $ecret with 'quotes'\"").unwrap();
    path
}

/// xorshift64*: small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.below(N as u32) as usize]
    }

    /// Small numbers more often, as words have it.
    fn skewed(&mut self, bound: usize) -> usize {
        let (first, second) = (self.below(bound as u32) as usize, self.below(bound as u32) as usize);
        first * second / bound
    }

    fn hex(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes * 2 {
            let next = self.next();
            text.extend((0..16).map(|digit| char::from(b"0123456789abcdef"[(next >> (digit * 4) & 15) as usize])));
        }
        text.truncate(bytes * 2);
        text
    }
}
