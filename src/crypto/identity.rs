//! Private keys: the operators' identities, and the data identity that they unwrap.

use std::io::{BufRead, Cursor, Read};
use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{CryptoError, DataRecipient, Opened, Recipient, Sealed, open};

/// The work factor up to which a passphrase-protected identity is opened: some seconds of scrypt.
const MAX_WORK_FACTOR: u8 = 22;

/// Asks a person for a passphrase.
pub trait Prompt: Clone + Send + Sync + 'static {
    /// `None` where there is no person to ask.
    fn passphrase(&self, what: &str) -> Option<SecretString>;
}

/// Never asks.
#[derive(Clone, Copy)]
pub struct Unprompted;

impl Prompt for Unprompted {
    fn passphrase(&self, _what: &str) -> Option<SecretString> {
        None
    }
}

/// The private keys of one file, with the comments that sealift wrote into it.
pub struct IdentityFile {
    keys: Vec<Box<dyn age::Identity + Send + Sync>>,
    comments: Vec<String>,
}

impl IdentityFile {
    /// Reads an age identity file, one protected by a passphrase (binary or armoured), or an SSH private key.
    /// `name` stands in prompts and errors.
    pub fn parse<P: Prompt>(bytes: &[u8], name: &str, prompt: &P) -> Result<Self, CryptoError> {
        if is_age_file(bytes) {
            let text = unlock(bytes, name, prompt)?;
            return Self::parse_text(&text, name, prompt);
        }
        if bytes.starts_with(b"-----BEGIN ") {
            return Self::parse_ssh(bytes, name, prompt);
        }
        Self::parse_text(bytes, name, prompt)
    }

    fn parse_text<P: Prompt>(text: &[u8], name: &str, prompt: &P) -> Result<Self, CryptoError> {
        let refused = || CryptoError::NotAnIdentity(name.to_owned());
        let file = age::IdentityFile::from_buffer(Cursor::new(text)).map_err(|_| refused())?;
        let keys = file
            .with_callbacks(Callbacks { prompt: prompt.clone(), name: name.to_owned() })
            .into_identities()
            .map_err(|error| CryptoError::Plugin(error.to_string()))?;
        if keys.is_empty() {
            return Err(refused());
        }
        let comments = text
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix('#').map(|comment| comment.trim().to_owned()))
            .collect();
        Ok(Self { keys, comments })
    }

    fn parse_ssh<P: Prompt>(bytes: &[u8], name: &str, prompt: &P) -> Result<Self, CryptoError> {
        let refused = || CryptoError::NotAnIdentity(name.to_owned());
        let key = age::ssh::Identity::from_buffer(Cursor::new(bytes), Some(name.to_owned())).map_err(|_| refused())?;
        let key = match key {
            age::ssh::Identity::Unsupported(_) => {
                return Err(CryptoError::Key(format!("{name}: only ssh-ed25519 and ssh-rsa keys can open a backup")));
            }
            // Once and here: age would ask at every line of every header, and call it another person's key without an
            // answer.
            age::ssh::Identity::Encrypted(key) => {
                let passphrase = prompt.passphrase(name).ok_or_else(|| CryptoError::NoPassphrase(name.to_owned()))?;
                let wrong = |_| CryptoError::WrongPassphrase(name.to_owned());
                age::ssh::Identity::Unencrypted(key.decrypt(passphrase).map_err(wrong)?)
            }
            key @ age::ssh::Identity::Unencrypted(_) => key,
        };
        Ok(Self { keys: vec![Box::new(key)], comments: Vec::new() })
    }

    pub fn keys(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| key.as_ref() as &dyn age::Identity)
    }

    /// The value of a comment line `# name: value`.
    pub fn comment(&self, name: &str) -> Option<&str> {
        self.comment_lines().find(|line| line.0 == name).map(|line| line.1)
    }

    /// All comment lines `# name: value`, as name and value.
    pub fn comment_lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.comments.iter().filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
    }
}

fn is_age_file(bytes: &[u8]) -> bool {
    bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

fn unlock<P: Prompt>(bytes: &[u8], name: &str, prompt: &P) -> Result<Opened, CryptoError> {
    let damaged = |error: age::DecryptError| CryptoError::Damaged(format!("{name}: {error}"));
    let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(bytes)).map_err(damaged)?;
    if !decryptor.is_scrypt() {
        return Err(CryptoError::NotAnIdentity(name.to_owned()));
    }
    let passphrase = prompt.passphrase(name).ok_or_else(|| CryptoError::NoPassphrase(name.to_owned()))?;
    let mut key = age::scrypt::Identity::new(passphrase);
    key.set_max_work_factor(MAX_WORK_FACTOR);
    let mut reader = match decryptor.decrypt(std::iter::once(&key as &dyn age::Identity)) {
        Ok(reader) => reader,
        Err(age::DecryptError::DecryptionFailed | age::DecryptError::NoMatchingKeys) => {
            return Err(CryptoError::WrongPassphrase(name.to_owned()));
        }
        Err(error) => return Err(damaged(error)),
    };
    // One allocation that holds the whole: a growing buffer would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
    reader.read_to_end(&mut text).map_err(|error| damaged(error.into()))?;
    Ok(text)
}

#[derive(Clone)]
struct Callbacks<P: Prompt> {
    prompt: P,
    name: String,
}

impl<P: Prompt> age::Callbacks for Callbacks<P> {
    fn display_message(&self, message: &str) {
        tracing::info!("{message}");
    }

    fn confirm(&self, _message: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    fn request_public_string(&self, _description: &str) -> Option<String> {
        None
    }

    fn request_passphrase(&self, _description: &str) -> Option<SecretString> {
        self.prompt.passphrase(&self.name)
    }
}

/// An epoch's private key. Exists in memory only, for as long as it takes to wrap it or to restore with it.
pub struct DataIdentity(age::x25519::Identity);

impl DataIdentity {
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    pub fn recipient(&self) -> DataRecipient {
        DataRecipient::of(&self.0)
    }

    /// An ordinary age identity file with `comments`, one a line, encrypted for `recipients`.
    pub fn wrap(&self, comments: &[String], recipients: &[Recipient]) -> Result<Sealed, CryptoError> {
        super::seal(identity_text(&self.0, comments).as_bytes(), recipients)
    }

    /// Opens what [`DataIdentity::wrap`] made. Exactly one X25519 identity is accepted and nothing else, so that a
    /// planted file cannot make a reader run a plugin or try many keys.
    pub fn unwrap<'a>(
        sealed: &[u8],
        identities: impl Iterator<Item = &'a dyn age::Identity>,
    ) -> Result<Self, CryptoError> {
        Self::unwrap_with_comments(sealed, identities).map(|(identity, _)| identity)
    }

    /// The same, with the comment lines around the identity.
    pub fn unwrap_with_comments<'a>(
        sealed: &[u8],
        identities: impl Iterator<Item = &'a dyn age::Identity>,
    ) -> Result<(Self, Vec<String>), CryptoError> {
        let plain = open(sealed, identities)?;
        let refused = || CryptoError::Damaged("does not hold exactly one X25519 identity".to_owned());
        let text = std::str::from_utf8(&plain).map_err(|_| refused())?;
        let mut keys = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(key), None) = (keys.next(), keys.next()) else { return Err(refused()) };
        let identity = age::x25519::Identity::from_str(key).map(Self).map_err(|_| refused())?;
        let comments = text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim().to_owned());
        Ok((identity, comments.collect()))
    }

    pub(super) fn as_age(&self) -> &dyn age::Identity {
        &self.0
    }

    /// Opens a whole object that was encrypted to this epoch.
    pub fn open(&self, sealed: &[u8]) -> Result<Opened, CryptoError> {
        open(sealed, std::iter::once(self.as_age()))
    }
}

fn identity_text(key: &age::x25519::Identity, comments: &[String]) -> Zeroizing<String> {
    let secret = key.to_string();
    let secret = secret.expose_secret();
    let comment_bytes: usize = comments.iter().map(|comment| comment.len() + 3).sum();
    let mut text = Zeroizing::new(String::with_capacity(comment_bytes + secret.len() + 1));
    for comment in comments {
        text.push_str("# ");
        text.push_str(comment);
        text.push('\n');
    }
    text.push_str(secret);
    text.push('\n');
    text
}

/// A new identity for an operator who has none: its public half, and the bytes of its identity file, protected by
/// `passphrase` where one is given. `comments` are made from the public half.
pub fn new_identity_file(
    comments: impl FnOnce(&str) -> Vec<String>,
    passphrase: Option<SecretString>,
) -> Result<(Recipient, Zeroizing<Vec<u8>>), CryptoError> {
    let key = age::x25519::Identity::generate();
    let public = key.to_public().to_string();
    let text = identity_text(&key, &comments(&public));
    let recipient = Recipient::parse(&public)?;
    let Some(passphrase) = passphrase else {
        return Ok((recipient, Zeroizing::new(text.as_bytes().to_vec())));
    };
    let protect = || -> std::io::Result<Vec<u8>> {
        use std::io::Write;
        let mut writer = age::Encryptor::with_user_passphrase(passphrase).wrap_output(Vec::new())?;
        writer.write_all(text.as_bytes())?;
        writer.finish()
    };
    let bytes = protect().map_err(|error| CryptoError::Key(format!("cannot protect the identity: {error}")))?;
    Ok((recipient, Zeroizing::new(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Says(&'static str);

    impl Prompt for Says {
        fn passphrase(&self, _what: &str) -> Option<SecretString> {
            Some(SecretString::from(self.0.to_owned()))
        }
    }

    fn comments(public: &str) -> Vec<String> {
        vec![format!("public key: {public}"), "signer: ssh-ed25519 AAAA".to_owned()]
    }

    #[test]
    fn a_wrapped_data_identity_opens_for_its_recipient_only() {
        let (alice, alice_file) = new_identity_file(comments, None).expect("alice");
        let (_, bob_file) = new_identity_file(comments, None).expect("bob");
        let data = DataIdentity::generate();
        let wrapped = data.wrap(&["epoch 1".to_owned()], &[alice]).expect("wrapped");
        let alice = IdentityFile::parse(&alice_file, "alice", &Unprompted).expect("alice's file");
        let bob = IdentityFile::parse(&bob_file, "bob", &Unprompted).expect("bob's file");
        let unwrapped = DataIdentity::unwrap(wrapped.bytes(), alice.keys()).expect("alice opens");
        assert_eq!(unwrapped.recipient(), data.recipient());
        assert!(matches!(DataIdentity::unwrap(wrapped.bytes(), bob.keys()), Err(CryptoError::NoIdentityOpens)));
    }

    #[test]
    fn a_protected_identity_keeps_its_comments_and_wants_its_passphrase() {
        let (_, file) = new_identity_file(comments, Some(SecretString::from("correct".to_owned()))).expect("made");
        let read = IdentityFile::parse(&file, "key", &Says("correct")).expect("opened");
        assert_eq!(read.comment("signer"), Some("ssh-ed25519 AAAA"));
        assert!(matches!(IdentityFile::parse(&file, "key", &Says("wrong")), Err(CryptoError::WrongPassphrase(_))));
        assert!(matches!(IdentityFile::parse(&file, "key", &Unprompted), Err(CryptoError::NoPassphrase(_))));
    }

    #[test]
    fn a_key_file_with_two_identities_or_a_plugin_is_refused() {
        let (alice, file) = new_identity_file(comments, None).expect("alice");
        let identity = IdentityFile::parse(&file, "alice", &Unprompted).expect("alice's file");
        let one = age::x25519::Identity::generate().to_string().expose_secret().to_owned();
        for text in [format!("{one}\n{one}\n"), "AGE-PLUGIN-YUBIKEY-1QQQQ\n".to_owned(), "# nothing\n".to_owned()] {
            let planted = super::super::seal(text.as_bytes(), std::slice::from_ref(&alice)).expect("sealed");
            let result = DataIdentity::unwrap(planted.bytes(), identity.keys());
            assert!(matches!(result, Err(CryptoError::Damaged(_))));
        }
    }
}
