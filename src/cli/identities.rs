//! Private keys as a person brings them: files, standard input, the environment; and passphrases asked for.

use std::io::Read;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output::is_interactive;
use crate::crypto::{IdentityFile, Prompt};

/// An identity itself, for where a file is unwelcome.
const VARIABLE: &str = "SEALIFT_IDENTITY";
/// The largest identity file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Asks at the terminal, without an echo.
#[derive(Clone, Copy)]
pub struct Terminal;

impl Prompt for Terminal {
    fn passphrase(&self, what: &str) -> Option<SecretString> {
        if !is_interactive() {
            return None;
        }
        rpassword::prompt_password(format!("Passphrase for {what}: ")).ok().map(SecretString::from)
    }
}

/// Everything that was given; at least one.
pub fn load(paths: &[PathBuf]) -> Result<Vec<IdentityFile>, Failure> {
    let identities = load_any(paths)?;
    if identities.is_empty() {
        return Err(Failure::usage("no identity is given", format!("give one with -i FILE, or in {VARIABLE}")));
    }
    Ok(identities)
}

/// Everything that was given; perhaps nothing.
pub fn load_any(paths: &[PathBuf]) -> Result<Vec<IdentityFile>, Failure> {
    let mut identities = load_files(paths)?;
    if let Some(text) = std::env::var_os(VARIABLE) {
        let text = Zeroizing::new(text.into_encoded_bytes());
        identities.push(IdentityFile::parse(&text, VARIABLE, &Terminal)?);
    }
    Ok(identities)
}

/// What these files hold.
pub fn load_files(paths: &[PathBuf]) -> Result<Vec<IdentityFile>, Failure> {
    let load = |path: &PathBuf| -> Result<IdentityFile, Failure> {
        let bytes = read(path)?;
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        Ok(IdentityFile::parse(&bytes, &name, &Terminal)?)
    };
    paths.iter().map(load).collect()
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if path.to_string_lossy().to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        let hint = format!("-i names the file that holds it; the key itself may stand in {VARIABLE}");
        return Err(Failure::usage("a private key was given in the place of a file's name", hint));
    }
    let failed = |error: std::io::Error| {
        Failure::usage(format!("{}: {error}", path.display()), "-i names the file with the private key")
    };
    // Room for all of it at once: a growing buffer would leave copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    }
    Ok(bytes)
}

/// A passphrase for a new identity, asked for twice.
pub fn new_passphrase() -> Result<SecretString, Failure> {
    if !is_interactive() {
        return Err(Failure::usage(
            "a new identity is protected by a passphrase, and there is no terminal to ask for one",
            "run it at a terminal, or add --no-passphrase and take the file away at once",
        ));
    }
    let failed = |error: std::io::Error| Failure::new(super::failure::FAILED, format!("terminal: {error}"));
    let first = Zeroizing::new(rpassword::prompt_password("New passphrase: ").map_err(failed)?);
    let second = Zeroizing::new(rpassword::prompt_password("Once more: ").map_err(failed)?);
    if *first != *second {
        return Err(Failure::usage("the two passphrases differ", "try again"));
    }
    if first.is_empty() {
        return Err(Failure::usage("the passphrase is empty", "--no-passphrase writes an unprotected identity"));
    }
    Ok(SecretString::from(first.as_str()))
}
