//! A small installation shaped like Trinity's: a database where a few long execution logs hold nearly all bytes, and `.env`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, OptionalExtension, params};

use super::random::{Language, Random};

pub const AGENTS: [&str; 8] = ["atlas", "beacon", "cornelius", "dispatch", "ember", "fathom", "gauge", "harbor"];
pub const TABLES: [&str; 8] = [
    "users",
    "agent_ownership",
    "agent_schedules",
    "schedule_executions",
    "agent_health_checks",
    "chat_messages",
    "system_settings",
    "schema_migrations",
];
const EXECUTIONS: i64 = 230;
const A_DAYS_EXECUTIONS: i64 = 9;
const HEALTH_CHECKS_PER_EXECUTION: u32 = 40;
const CHATS_PER_EXECUTION: u32 = 4;

const SCHEMA: &str = "
create table schema_migrations (name text primary key, applied_at text not null);
create table users (id integer primary key, username text unique not null, role text not null, created_at text not null);
create table agent_ownership (agent_name text primary key, owner_id integer not null references users(id),
    messages integer not null default 0, last_seen_at text);
create table agent_schedules (id text primary key, agent_name text not null, cron_expression text not null,
    message text not null, last_run_at text);
create table schedule_executions (id integer primary key, schedule_id text not null, agent_name text not null,
    status text not null, started_at text not null, duration_ms integer, response text, execution_log text);
create index idx_executions_schedule on schedule_executions(schedule_id, started_at);
create table chat_messages (id text primary key, agent_name text not null, content text not null, timestamp text not null);
create index idx_chat_agent on chat_messages(agent_name, timestamp);
create table agent_health_checks (id integer primary key, agent_name text not null, status text not null,
    cpu_percent real, latency_ms integer, checked_at text not null);
create index idx_health_agent on agent_health_checks(agent_name, checked_at);
create table system_settings (key text primary key, value text not null, updated_at text not null);
";

/// Makes the database in rollback mode, as Trinity runs it, and vacuumed, as Trinity leaves it each night.
pub fn make(path: &Path, stop: &AtomicBool) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch("pragma journal_mode = off; pragma synchronous = off;")?;
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch("begin")?;
    let mut scribe = Scribe::new(&connection, 1);
    scribe.settings()?;
    for number in 1..=EXECUTIONS {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        scribe.execution(number)?;
    }
    drop(scribe);
    connection.execute_batch("commit; vacuum; pragma journal_mode = delete;")
}

/// A day of use: the oldest executions go, as many new ones come with their small rows, agents and schedules are touched.
pub fn a_days_use(connection: &mut Connection) -> rusqlite::Result<()> {
    let work = connection.transaction()?;
    let newest: i64 = work.query_row("select max(id) from schedule_executions", [], |row| row.get(0))?;
    work.execute(
        "delete from schedule_executions where id in (select id from schedule_executions order by id limit ?1)",
        [A_DAYS_EXECUTIONS],
    )?;
    let mut scribe = Scribe::new(&work, 2);
    for number in newest + 1..=newest + A_DAYS_EXECUTIONS {
        scribe.execution(number)?;
    }
    drop(scribe);
    work.execute("update agent_schedules set last_run_at = ?1", [timestamp(newest)])?;
    work.execute("update agent_ownership set last_seen_at = ?1", [timestamp(newest)])?;
    work.commit()
}

pub fn rows(connection: &Connection) -> rusqlite::Result<u64> {
    let mut rows = 0;
    for table in TABLES {
        let count: i64 = connection.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0))?;
        rows += count.unsigned_abs();
    }
    Ok(rows)
}

/// What each of the application's transactions keeps equal, and a torn copy would not: the messages that the agents'
/// rows count, and the messages there are.
pub fn messages(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection.query_row(
        "select (select sum(messages) from agent_ownership), (select count(*) from chat_messages)",
        [],
        |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs())),
    )
}

/// SQLite's own word: the damage it finds, if any.
pub fn damage(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let answer: Option<String> = connection.query_row("pragma integrity_check(1)", [], |row| row.get(0)).optional()?;
    Ok(answer.filter(|answer| answer != "ok"))
}

pub fn write_environment(path: &Path) -> std::io::Result<()> {
    let mut random = Random::new(3);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "# Trinity\nDATABASE_URL=\nTRINITY_DATA_PATH=./trinity-data")?;
    for name in ["CREDENTIAL_ENCRYPTION_KEY", "SECRET_KEY", "AGENT_AUTH_SECRET", "INTERNAL_API_SECRET"] {
        writeln!(file, "{name}={}", random.hex(32))?;
    }
    writeln!(file, "ADMIN_PASSWORD=\"a $ecret with 'quotes'\"")
}

/// One message of an agent: the row, and the agent's count of its rows.
pub fn say(connection: &Connection, random: &mut Random, language: &Language, time: &str) -> rusqlite::Result<()> {
    let agent = random.pick(AGENTS);
    let length = 20 + random.below(60);
    let content = language.sentence(random, length);
    connection.prepare_cached("insert into chat_messages values (?1, ?2, ?3, ?4)")?.execute(params![
        random.uuid(),
        agent,
        content,
        time
    ])?;
    connection
        .prepare_cached("update agent_ownership set messages = messages + 1 where agent_name = ?1")?
        .execute([agent])?;
    Ok(())
}

/// Fills tables from the seed.
struct Scribe<'a> {
    connection: &'a Connection,
    random: Random,
    language: Language,
}

impl<'a> Scribe<'a> {
    fn new(connection: &'a Connection, seed: u64) -> Self {
        Self { connection, random: Random::new(seed), language: Language::new() }
    }

    fn settings(&mut self) -> rusqlite::Result<()> {
        let (connection, time) = (self.connection, timestamp(0));
        for number in 0..60 {
            connection.execute(
                "insert into schema_migrations values (?1, ?2)",
                params![format!("{number:03}_migration"), time],
            )?;
            connection.execute(
                "insert into system_settings values (?1, ?2, ?3)",
                params![format!("setting_{number}"), self.random.hex(24), time],
            )?;
        }
        for (number, agent) in (1i64..).zip(AGENTS) {
            connection.execute(
                "insert into users values (?1, ?2, 'user', ?3)",
                params![number, format!("user{number}"), time],
            )?;
            connection.execute("insert into agent_ownership values (?1, ?2, 0, null)", params![agent, number])?;
            connection.execute(
                "insert into agent_schedules values (?1, ?2, '0 * * * *', 'Do your rounds.', null)",
                params![format!("sched-{agent}"), agent],
            )?;
        }
        Ok(())
    }

    /// One execution with the small rows that come along with it.
    fn execution(&mut self, number: i64) -> rusqlite::Result<()> {
        let (agent, time) = (self.random.pick(AGENTS), timestamp(number));
        let length = 150_000 + self.random.below(40_000) as usize;
        let log = self.log(length, &time);
        let response = self.language.sentence(&mut self.random, 40);
        self.connection
            .prepare_cached("insert into schedule_executions values (?1, ?2, ?3, 'success', ?4, ?5, ?6, ?7)")?
            .execute(params![
                number,
                format!("sched-{agent}"),
                agent,
                time,
                self.random.below(90_000),
                response,
                log
            ])?;
        for _ in 0..HEALTH_CHECKS_PER_EXECUTION {
            let cpu = f64::from(self.random.below(1000)) / 10.0;
            self.connection
                .prepare_cached("insert into agent_health_checks values (null, ?1, 'healthy', ?2, ?3, ?4)")?
                .execute(params![self.random.pick(AGENTS), cpu, self.random.below(400), time])?;
        }
        for _ in 0..CHATS_PER_EXECUTION {
            say(self.connection, &mut self.random, &self.language, &time)?;
        }
        Ok(())
    }

    /// Lines of JSON as an agent's runtime logs them: roles, tool calls, identifiers, and prose. Hashes among the words
    /// keep it from compressing better than real logs do.
    fn log(&mut self, length: usize, time: &str) -> String {
        let random = &mut self.random;
        let mut log = String::with_capacity(length + 2000);
        log.push('[');
        while log.len() < length {
            let (id, tool) = (random.hex(12), random.pick(["Bash", "Read", "Edit", "Grep", "WebFetch"]));
            log.push_str(&format!(
                "{{\"type\":\"assistant\",\"timestamp\":\"{time}\",\"message\":{{\"id\":\"msg_{id}\",\"tool\":\"{tool}\",\"text\":\""
            ));
            for _ in 0..60 + random.below(120) {
                if random.below(9) == 0 {
                    log.push_str(&random.hex(4));
                } else {
                    log.push_str(self.language.word(random));
                }
                log.push(' ');
            }
            log.push_str("\"}},\n");
        }
        log.push_str("null]");
        log
    }
}

/// A time of day in one long month, 90 seconds after the one before.
fn timestamp(number: i64) -> String {
    let seconds = number * 90;
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    format!("2026-08-{:02}T{:02}:{:02}:{:02}Z", 1 + day % 28, rest / 3600, rest / 60 % 60, rest % 60)
}
