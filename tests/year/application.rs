//! A year of an application like Trinity, in small: long logs that are written once and deleted when they are old and
//! that hold nearly all bytes, small rows with random keys in between, a few rows that are updated all the time, and a
//! VACUUM each night. It grows to twice its size. A day changes about 8 % of the pages.

use std::path::Path;

use rusqlite::{Connection, params};

/// Logs at the beginning; at the end of the year twice as many.
const LOGS: i64 = 50;
const LOG_BYTES: u32 = 120_000;
const LOG_SPREAD: u32 = 40_000;
/// New logs in a day; as many old ones go each night.
const LOGS_A_DAY: u32 = 4;
const CHECKS_PER_LOG: u32 = 48;
const AGENTS: [&str; 6] = ["atlas", "beacon", "cornelius", "dispatch", "ember", "fathom"];

pub struct Application {
    connection: Connection,
    random: Random,
    words: Vec<String>,
    newest: i64,
}

impl Application {
    /// Makes the database at `path`.
    pub fn start(path: &Path, seed: u64) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("pragma journal_mode = delete; pragma synchronous = off;").unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let words = (0..2000).map(|_| random.word()).collect();
        let mut application = Self { connection, random, words, newest: 0 };
        for agent in AGENTS {
            application.connection.execute("insert into agents values (?1, '')", [agent]).unwrap();
        }
        let begin = |application: &mut Self| {
            for _ in 0..LOGS {
                application.log("the beginning");
                application.small_rows(CHECKS_PER_LOG, "the beginning");
            }
        };
        application.in_one_transaction(begin);
        application
    }

    /// What happens in one hour: at night, sometimes nothing.
    pub fn hour(&mut self, hour_of_day: i8, time: &str) {
        if hour_of_day < 6 && self.random.below(2) == 0 {
            return;
        }
        self.in_one_transaction(|application| {
            application.small_rows(CHECKS_PER_LOG * LOGS_A_DAY / 24, time);
            if application.random.below(24) < LOGS_A_DAY {
                application.log(time);
            }
        });
    }

    /// Deletes what is old, and puts the file in order.
    pub fn night(&mut self, day: i64) {
        self.keep(LOGS + LOGS * day / 365);
        self.connection.execute_batch("vacuum").unwrap();
    }

    /// Somebody tidies up: two thirds go at once.
    pub fn tidy_up(&mut self) {
        self.keep(LOGS / 3);
        self.connection.execute_batch("vacuum").unwrap();
    }

    /// A new release: every small row is rewritten.
    pub fn migrate(&mut self, day: i64) {
        let batch = format!(
            "alter table health_checks add column release_{day} text default '';
             update health_checks set status = status || '.', release_{day} = '{day}';"
        );
        self.connection.execute_batch(&batch).unwrap();
    }

    fn in_one_transaction(&mut self, change: impl FnOnce(&mut Self)) {
        self.connection.execute_batch("begin immediate").unwrap();
        change(self);
        self.connection.execute_batch("commit").unwrap();
    }

    fn keep(&self, logs: i64) {
        let oldest = self.newest - logs;
        self.connection.execute("delete from logs where number <= ?1", [oldest]).unwrap();
        self.connection.execute("delete from health_checks where number <= ?1", [oldest]).unwrap();
    }

    fn log(&mut self, time: &str) {
        self.newest += 1;
        let (id, agent) = (self.random.hex(), self.agent());
        let bytes = LOG_BYTES + self.random.below(LOG_SPREAD);
        let text = self.text(bytes as usize);
        let row = params![self.newest, id, agent, time, text];
        self.connection.prepare_cached("insert into logs values (?1, ?2, ?3, ?4, ?5)").unwrap().execute(row).unwrap();
    }

    fn small_rows(&mut self, checks: u32, time: &str) {
        let insert =
            "insert into health_checks (id, number, agent, status, checked_at) values (?1, ?2, ?3, 'healthy', ?4)";
        for _ in 0..checks {
            let (id, agent) = (self.random.hex(), self.agent());
            let row = params![id, self.newest, agent, time];
            self.connection.prepare_cached(insert).unwrap().execute(row).unwrap();
        }
        let agent = self.agent();
        self.connection.execute("update agents set last_seen = ?1 where name = ?2", [time, agent]).unwrap();
    }

    fn agent(&mut self) -> &'static str {
        AGENTS[self.random.below(AGENTS.len() as u32) as usize]
    }

    /// Words, and numbers among them: compresses about as agents' logs do.
    fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 32);
        while text.len() < bytes {
            if self.random.below(9) == 0 {
                text.push_str(&self.random.hex()[..8]);
            } else {
                let (a, b) = (self.random.below(2000) as usize, self.random.below(2000) as usize);
                text.push_str(&self.words[a * b / 2000]);
            }
            text.push(' ');
        }
        text
    }
}

const SCHEMA: &str = "
create table agents (name text primary key, last_seen text not null);
create table logs (number integer primary key, id text unique not null, agent text not null, started_at text not null, log text not null);
create table health_checks (id text primary key, number integer not null, agent text not null, status text not null, checked_at text not null);
create index health_checks_agent on health_checks(agent, checked_at);
";

/// xorshift64*: small, fast, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    fn hex(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }

    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 24] = [
            "re", "con", "ta", "in", "er", "mi", "sta", "tion", "pro", "ve", "de", "li", "ma", "ing", "ser", "vi",
            "ce", "ex", "pec", "ted", "fi", "le", "un", "der",
        ];
        (0..2 + self.below(3)).map(|_| SYLLABLES[self.below(24) as usize]).collect()
    }
}
