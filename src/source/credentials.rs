//! Whether Trinity's stored credentials open with the keys in its `.env`: without that pair they are lost.
//!
//! A credential is a JSON envelope in a text column: `version` 1, `algorithm` AES-256-GCM, `nonce` and `ciphertext` in
//! base64, no additional authenticated data. The key is 64 hexadecimal digits in `CREDENTIAL_ENCRYPTION_KEY`, the one
//! before it in `CREDENTIAL_ENCRYPTION_KEY_SECONDARY`. What is no envelope is left over from a time without encryption.

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde::Deserialize;
use zeroize::Zeroizing;

const NAMES: [&str; 2] = ["CREDENTIAL_ENCRYPTION_KEY", "CREDENTIAL_ENCRYPTION_KEY_SECONDARY"];
const NONCE_BYTES: usize = 12;
/// Columns of envelopes, by Trinity's habit of naming them; and its settings, which hold any value.
const COLUMNS: &str = "
    select t.name, c.name from sqlite_schema t, pragma_table_info(t.name) c
    where t.type = 'table' and t.rootpage > 0
      and (c.name like '%encrypted%' or c.name like '%bot_token%' or (t.name = 'system_settings' and c.name = 'value'))";
/// Larger values are no credentials, and are not read.
const MAX_BYTES: u32 = 1 << 20;

/// The keys of one `.env`.
pub struct CredentialKeys(Vec<Aes256Gcm>);

impl CredentialKeys {
    /// The keys that `environment`, an `.env` file, sets; of several lines for one name the last. `None`: it is no such
    /// file, or sets none.
    pub fn parse(environment: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(environment).ok()?;
        let keys: Vec<Aes256Gcm> = NAMES.iter().filter_map(|name| key(text, name)).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    fn opens(&self, envelope: &Envelope) -> bool {
        let decode = |text: &str| STANDARD.decode(text).ok();
        let (Some(nonce), Some(ciphertext)) = (decode(&envelope.nonce), decode(&envelope.ciphertext)) else {
            return false;
        };
        if nonce.len() != NONCE_BYTES {
            return false;
        }
        self.0.iter().any(|key| key.decrypt(nonce.as_slice().into(), ciphertext.as_slice()).map(Zeroizing::new).is_ok())
    }
}

fn key(text: &str, name: &str) -> Option<Aes256Gcm> {
    let value = |line: &'_ str| -> Option<Zeroizing<String>> {
        let line = line.trim();
        let assigned = line.strip_prefix("export ").unwrap_or(line).trim_start().strip_prefix(name)?;
        let value = assigned.trim_start().strip_prefix('=')?.trim();
        let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.split(*quote).next());
        let bare = || value.split_whitespace().next().unwrap_or_default();
        Some(Zeroizing::new(unquoted.unwrap_or_else(bare).to_owned()))
    };
    let hexadecimal = text.lines().rev().find_map(value)?;
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(hexadecimal.as_bytes(), &mut *bytes).ok()?;
    Aes256Gcm::new_from_slice(&*bytes).ok()
}

#[derive(Deserialize)]
struct Envelope {
    version: u32,
    algorithm: String,
    nonce: String,
    ciphertext: String,
}

/// How many stored credentials there are, and how many of them open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Credentials {
    pub stored: u64,
    pub opened: u64,
}

/// Tries `keys` on every credential in a database.
pub fn try_credentials(connection: &Connection, keys: Option<&CredentialKeys>) -> rusqlite::Result<Credentials> {
    let mut found = Credentials::default();
    let mut columns = connection.prepare(COLUMNS)?;
    let columns = columns.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for column in columns {
        let (table, column) = column?;
        let (table, column) = (table.replace('"', "\"\""), column.replace('"', "\"\""));
        let sql = format!(
            "select \"{column}\" from \"{table}\" where typeof(\"{column}\") = 'text'
             and octet_length(\"{column}\") <= {MAX_BYTES} and \"{column}\" like '%AES-256-GCM%'"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(envelope) = serde_json::from_slice::<Envelope>(row.get_ref(0)?.as_bytes()?) else { continue };
            if envelope.version == 1 && envelope.algorithm == "AES-256-GCM" {
                found.stored += 1;
                found.opened += u64::from(keys.is_some_and(|keys| keys.opens(&envelope)));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(key: &str, plain: &str) -> String {
        let cipher = Aes256Gcm::new_from_slice(&hex::decode(key).expect("hexadecimal")).expect("a key");
        let nonce = [7u8; NONCE_BYTES];
        let sealed = cipher.encrypt(nonce.as_slice().into(), plain.as_bytes()).expect("sealed");
        let envelope = serde_json::json!({
            "version": 1, "algorithm": "AES-256-GCM", "nonce": STANDARD.encode(nonce), "ciphertext": STANDARD.encode(sealed)
        });
        serde_json::to_string_pretty(&envelope).expect("JSON")
    }

    fn database(rows: &[(&str, &str, String)]) -> Connection {
        let connection = Connection::open_in_memory().expect("opened");
        connection
            .execute_batch(
                "create table users (id, github_pat_encrypted); create table slack_workspaces (id, bot_token);
                 create table system_settings (key, value); create table chat_messages (id, content);",
            )
            .expect("tables");
        for (table, column, value) in rows {
            connection.execute(&format!("insert into {table} ({column}) values (?1)"), [value]).expect("a row");
        }
        connection
    }

    #[test]
    fn credentials_open_with_either_key_of_their_own_env_and_with_no_other() {
        let (first, second) = ("1".repeat(64), "ab".repeat(32));
        let connection = database(&[
            ("users", "github_pat_encrypted", seal(&first, "{\"token\":1}")),
            ("slack_workspaces", "bot_token", seal(&second, "{}")),
            ("slack_workspaces", "bot_token", "xoxb-plain-of-old".to_owned()),
            ("system_settings", "value", seal(&first, "{}")),
            ("system_settings", "value", "AES-256-GCM is a word, too".to_owned()),
            ("chat_messages", "content", seal(&"2".repeat(64), "talk of envelopes")),
        ]);
        let cases = [
            (format!("A=b\nCREDENTIAL_ENCRYPTION_KEY={first}\nCREDENTIAL_ENCRYPTION_KEY_SECONDARY='{second}'\n"), 3),
            (format!("export CREDENTIAL_ENCRYPTION_KEY=\"{first}\" # the new one\n"), 2),
            (format!("CREDENTIAL_ENCRYPTION_KEY={first}\nCREDENTIAL_ENCRYPTION_KEY = {second}"), 1),
            (format!("CREDENTIAL_ENCRYPTION_KEY={}", "3".repeat(64)), 0),
        ];
        for (environment, opened) in cases {
            let keys = CredentialKeys::parse(environment.as_bytes()).expect("keys");
            let found = try_credentials(&connection, Some(&keys)).expect("read");
            assert_eq!(found, Credentials { stored: 3, opened }, "{environment}");
        }
        assert_eq!(try_credentials(&connection, None).expect("read"), Credentials { stored: 3, opened: 0 });
    }

    #[test]
    fn what_sets_no_key_is_no_env() {
        for text in ["", "A=b", "CREDENTIAL_ENCRYPTION_KEY=", "CREDENTIAL_ENCRYPTION_KEY=12ab", "\u{0}"] {
            assert!(CredentialKeys::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(CredentialKeys::parse(&[0xff, 0xfe]).is_none());
    }
}
