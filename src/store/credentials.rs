//! Whose name S3 requests carry: the AWS default chain, and secrets in files as Docker mounts them.

use std::path::Path;
use std::{env, fs};

use aws_credential_types::provider::{self, error::CredentialsError, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials};

const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// Credentials from the files that `AWS_ACCESS_KEY_ID_FILE`, `AWS_SECRET_ACCESS_KEY_FILE` and
/// `AWS_SESSION_TOKEN_FILE` name. A value without its `_FILE` variable comes from the plain variable.
///
/// The files are read each time that the SDK asks, every 15 minutes, so that a rotated secret is picked up.
#[derive(Debug)]
pub(super) struct SecretFiles(());

impl SecretFiles {
    /// `None` where none of the three variables is set.
    pub(super) fn from_environment() -> Option<Self> {
        let named = [ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN].iter().any(|name| file_variable(name).is_some());
        named.then_some(Self(()))
    }
}

impl ProvideCredentials for SecretFiles {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(read())
    }
}

fn read() -> provider::Result {
    let access_key_id = required(ACCESS_KEY_ID)?;
    let secret_access_key = required(SECRET_ACCESS_KEY)?;
    let session_token = value(SESSION_TOKEN)?;
    Ok(Credentials::new(access_key_id, secret_access_key, session_token, None, "secret files"))
}

fn required(name: &str) -> Result<String, CredentialsError> {
    value(name)?
        .ok_or_else(|| CredentialsError::invalid_configuration(format!("neither {name}_FILE nor {name} is set")))
}

/// The value of a variable or of its file, without the white space around it; never part of an error.
fn value(name: &str) -> Result<Option<String>, CredentialsError> {
    let Some(path) = file_variable(name) else { return Ok(env::var(name).ok().filter(|value| !value.is_empty())) };
    let invalid = |what: String| CredentialsError::invalid_configuration(format!("{name}_FILE: {path}: {what}"));
    let text = fs::read_to_string(Path::new(&path)).map_err(|error| invalid(error.to_string()))?;
    match text.trim() {
        "" => Err(invalid("the file is empty".into())),
        value => Ok(Some(value.to_owned())),
    }
}

fn file_variable(name: &str) -> Option<String> {
    env::var(format!("{name}_FILE")).ok().filter(|path| !path.is_empty())
}
