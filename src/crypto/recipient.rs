//! The recipients that backups are encrypted to.

use std::{fmt, io};

use age::NoCallbacks;

use super::CryptoError;

/// An operator's public key: age X25519 (`age1…`), an SSH key (`ssh-ed25519`, `ssh-rsa`), a tagged key of a hardware
/// token (`age1tag1…`, `age1tagpq1…`) or a plugin's (`age1name1…`).
#[derive(Clone)]
pub struct Recipient {
    text: String,
    key: Key,
}

#[derive(Clone)]
enum Key {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
    Tag(age::tag::Recipient),
    TagPq(Box<age::tagpq::Recipient>),
    /// Its program is looked for when something is encrypted: a host need not have it to name its recipients.
    Plugin(age::plugin::Recipient),
}

impl Recipient {
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        let text = text.trim();
        Ok(Self { text: text.to_owned(), key: parse_key(text)? })
    }

    /// As the operator wrote it, an SSH key's comment included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The key alone: an SSH key without its comment.
    pub fn key(&self) -> &str {
        let end = match self.key {
            Key::Ssh(_) => self.text.match_indices(char::is_whitespace).nth(1).map(|(at, _)| at),
            _ => None,
        };
        &self.text[..end.unwrap_or(self.text.len())]
    }

    pub(super) fn as_age(&self) -> Result<Box<dyn age::Recipient>, CryptoError> {
        Ok(match &self.key {
            Key::X25519(key) => Box::new(key.clone()),
            Key::Ssh(key) => Box::new(key.clone()),
            Key::Tag(key) => Box::new(key.clone()),
            Key::TagPq(key) => Box::new((**key).clone()),
            Key::Plugin(key) => {
                let plugin =
                    age::plugin::RecipientPluginV1::new(key.plugin(), std::slice::from_ref(key), &[], NoCallbacks);
                Box::new(plugin.map_err(|error| CryptoError::Plugin(error.to_string()))?)
            }
        })
    }
}

/// Two are equal when their keys are; an SSH key's comment is a label.
impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Recipient {}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipient").field(&self.text).finish()
    }
}

fn parse_key(text: &str) -> Result<Key, CryptoError> {
    let refused = |reason: &str| CryptoError::NotARecipient { text: shown(text), reason: reason.to_owned() };
    // It stands in lists, configurations and key files, one a line.
    if text.contains(char::is_control) {
        return Err(refused("it holds a control character"));
    }
    if text.starts_with("ssh-") {
        return match text.parse() {
            Ok(key) => Ok(Key::Ssh(key)),
            Err(age::ssh::ParseRecipientKeyError::RsaModulusTooSmall) => Err(refused("an RSA key under 2048 bits")),
            Err(_) => Err(refused("only ssh-ed25519 and ssh-rsa public keys can be recipients")),
        };
    }
    let native = text.parse().map(Key::X25519).or_else(|_| text.parse().map(Key::Tag));
    let native = native.or_else(|_| text.parse().map(|key| Key::TagPq(Box::new(key))));
    native.or_else(|_| text.parse().map(Key::Plugin)).map_err(|_: &str| {
        refused("expected age1…, ssh-ed25519 … or ssh-rsa …, with nothing missing and nothing changed")
    })
}

/// A private key pasted in the wrong place must not be echoed.
fn shown(text: &str) -> String {
    if text.to_ascii_uppercase().starts_with("AGE-") || text.contains("PRIVATE KEY") {
        return "(a private key)".to_owned();
    }
    text.chars().take(80).collect()
}

/// One recipient a line; blank lines and lines that begin with `#` are passed over.
pub fn parse_recipients(text: &str) -> Result<Vec<Recipient>, CryptoError> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(Recipient::parse)
        .collect()
}

/// The public half of an epoch's data identity.
#[derive(Clone)]
pub struct DataRecipient(DataKey);

#[derive(Clone)]
enum DataKey {
    X25519(age::x25519::Recipient),
    /// Of a type that this sealift does not know: nothing of that epoch is encrypted or opened, everything else is.
    Unknown(String),
}

impl DataRecipient {
    pub(super) fn of(identity: &age::x25519::Identity) -> Self {
        Self(DataKey::X25519(identity.to_public()))
    }

    /// `Unsupported` where the type of the key is not known.
    pub(super) fn as_age(&self) -> io::Result<&dyn age::Recipient> {
        match &self.0 {
            DataKey::X25519(key) => Ok(key),
            DataKey::Unknown(text) => {
                let why = format!("this sealift does not know the type of the data key {text}");
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
        }
    }
}

impl PartialEq for DataRecipient {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for DataRecipient {}

impl fmt::Display for DataRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            DataKey::X25519(key) => key.fmt(f),
            DataKey::Unknown(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for DataRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for DataRecipient {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for DataRecipient {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        match text.parse() {
            Ok(key) => Ok(Self(DataKey::X25519(key))),
            // Of another type, and long enough to name it: `age1pq1…`. One of the known type with an error in it is
            // damage.
            Err(_) if is_plain(&text) && text.matches('1').count() > 1 && text.starts_with("age1") => {
                Ok(Self(DataKey::Unknown(text.into_owned())))
            }
            Err(error) => Err(serde::de::Error::custom(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_given_as_recipient_is_not_echoed() {
        let secret = "AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQQQQQQ";
        let error = Recipient::parse(secret).expect_err("not a recipient");
        assert!(!error.to_string().contains("QQPQ"), "{error}");
    }

    /// Bech32 has no `1` behind the last one: what stands before it names the type.
    #[test]
    fn a_data_key_of_another_type_is_kept_and_one_with_an_error_is_refused() {
        let read = |text: &str| serde_json::from_value::<DataRecipient>(text.into());
        let known = age::x25519::Identity::generate().to_public().to_string();
        assert!(read(&known).expect("a key").as_age().is_ok());
        let other = read("age1pq1qqpzry9x8gf2tvdw0s3jn54khce6mua7l").expect("a key of another type");
        assert_eq!(other.as_age().err().map(|error| error.kind()), Some(io::ErrorKind::Unsupported));
        assert_eq!(serde_json::to_value(&other).expect("JSON"), "age1pq1qqpzry9x8gf2tvdw0s3jn54khce6mua7l");
        assert_ne!(other, read(&known).expect("a key"));
        for wrong in [&known[..known.len() - 1], "", "age1", "ssh-ed25519 AAAA", "AGE1PQ1QQ", "age1pq1 q", "../../x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_ssh_key_is_the_same_whatever_its_comment() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
        let (bare, named) = (Recipient::parse(key).expect("a key"), Recipient::parse(&format!("{key} alice a")));
        assert_eq!(bare, named.expect("a key"));
        assert!(Recipient::parse(&format!("{key} ali\u{1b}[2Jce")).is_err());
    }

    #[test]
    fn a_recipients_file_may_hold_comments_and_blank_lines() {
        let key = age::x25519::Identity::generate().to_public().to_string();
        let recipients = parse_recipients(&format!("# alice\n\n  {key}  \n")).expect("one recipient");
        assert_eq!(recipients.len(), 1);
        assert_eq!(recipients[0].as_str(), key);
    }
}
