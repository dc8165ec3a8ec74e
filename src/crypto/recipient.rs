//! Whom backups are sealed for.

use std::fmt;

use age::NoCallbacks;

use super::CryptoError;

/// An operator's public key: age X25519 (`age1…`), an SSH key (`ssh-ed25519`, `ssh-rsa`) or a plugin's (`age1name1…`).
pub struct Recipient {
    text: String,
    key: Box<dyn age::Recipient + Send + Sync>,
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

    pub(super) fn as_age(&self) -> &dyn age::Recipient {
        self.key.as_ref()
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipient").field(&self.text).finish()
    }
}

fn parse_key(text: &str) -> Result<Box<dyn age::Recipient + Send + Sync>, CryptoError> {
    let refused = |reason: &str| CryptoError::NotARecipient { text: shown(text), reason: reason.to_owned() };
    if text.starts_with("ssh-") {
        return match text.parse::<age::ssh::Recipient>() {
            Ok(key) => Ok(Box::new(key)),
            Err(age::ssh::ParseRecipientKeyError::RsaModulusTooSmall) => Err(refused("an RSA key under 2048 bits")),
            Err(_) => Err(refused("only ssh-ed25519 and ssh-rsa public keys can be sealed to")),
        };
    }
    if let Ok(key) = text.parse::<age::x25519::Recipient>() {
        return Ok(Box::new(key));
    }
    if let Ok(plugin) = text.parse::<age::plugin::Recipient>() {
        let name = plugin.plugin().to_owned();
        let key = age::plugin::RecipientPluginV1::new(&name, &[plugin], &[], NoCallbacks)
            .map_err(|error| CryptoError::Plugin(error.to_string()))?;
        return Ok(Box::new(key));
    }
    Err(refused("expected age1…, ssh-ed25519 … or ssh-rsa …"))
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
pub struct DataRecipient(pub(super) age::x25519::Recipient);

impl DataRecipient {
    pub(super) fn as_age(&self) -> &dyn age::Recipient {
        &self.0
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
        self.0.fmt(f)
    }
}

impl fmt::Debug for DataRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
        text.parse().map(Self).map_err(serde::de::Error::custom)
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

    #[test]
    fn a_recipients_file_may_hold_comments_and_blank_lines() {
        let key = age::x25519::Identity::generate().to_public().to_string();
        let recipients = parse_recipients(&format!("# alice\n\n  {key}  \n")).expect("one recipient");
        assert_eq!(recipients.len(), 1);
        assert_eq!(recipients[0].as_str(), key);
    }
}
