//! What S3 servers and the SDK say when something fails, as errors that a person can act on.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use aws_credential_types::provider::error::CredentialsError;

use super::StoreError;
use super::error::chain;

/// What a request was about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// URL of the object or listing.
    pub object: &'a str,
    pub bucket: &'a str,
    pub endpoint: &'a str,
    pub region: &'a str,
}

/// The HTTP status of a failed request, where an answer came.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

impl Subject<'_> {
    pub(super) fn explain<E>(self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        if let Some(cause) = credentials_error(&error) {
            return StoreError::NoCredentials { cause };
        }
        match &error {
            SdkError::TimeoutError(_) => StoreError::Timeout { object: self.object(), cause: chain(&error) },
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
                StoreError::Unreachable { endpoint: self.endpoint.to_owned(), cause: failure_cause(&error) }
            }
            _ => match error.raw_response() {
                Some(response) => self.explain_answer(response, error.code().unwrap_or(""), error.message()),
                None => self.other(failure_cause(&error)),
            },
        }
    }

    fn explain_answer(self, response: &HttpResponse, code: &str, message: Option<&str>) -> StoreError {
        let status = response.status().as_u16();
        let message = message.unwrap_or("").to_owned();
        if let Some(error) = self.wrong_region(response, status, code) {
            return error;
        }
        match (status, code) {
            (_, "NoSuchBucket") => {
                StoreError::NoSuchBucket { bucket: self.bucket.to_owned(), endpoint: self.endpoint.to_owned() }
            }
            (404, _) => StoreError::NotFound { object: self.object() },
            (401 | 403, _) | (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                let code = if code.is_empty() { format!("status {status}") } else { code.to_owned() };
                StoreError::AccessDenied { object: self.object(), code, message }
            }
            (501, _) | (_, "NotImplemented") => {
                StoreError::NotSupported { object: self.object(), cause: answer(status, code, &message) }
            }
            _ => self.other(answer(status, code, &message)),
        }
    }

    /// What a part of an answer says about one object; `None` where that it is gone.
    pub(super) fn explain_code(self, code: &str, message: &str) -> Option<StoreError> {
        match code {
            "NoSuchKey" | "NoSuchVersion" => None,
            "AccessDenied" => {
                let (code, message) = (code.to_owned(), message.to_owned());
                Some(StoreError::AccessDenied { object: self.object(), code, message })
            }
            _ => Some(self.other(format!("the server says {}", join(code, message)))),
        }
    }

    /// AWS names the right region in a header or in the body, and says one of these.
    fn wrong_region(self, response: &HttpResponse, status: u16, code: &str) -> Option<StoreError> {
        let body = response.body().bytes().map(String::from_utf8_lossy);
        let header = response.headers().get("x-amz-bucket-region").map(str::to_owned);
        let expected = header.or_else(|| body.and_then(|body| element(&body, "Region")));
        let redirected = matches!(status, 301 | 307) || matches!(code, "PermanentRedirect" | "TemporaryRedirect");
        // A 400 that names our own region is about something else.
        let elsewhere = status == 400 && expected.as_deref().is_some_and(|region| region != self.region);
        (redirected || elsewhere).then(|| StoreError::WrongRegion {
            bucket: self.bucket.to_owned(),
            used: self.region.to_owned(),
            expected,
        })
    }

    fn object(self) -> String {
        self.object.to_owned()
    }

    pub(super) fn other(self, cause: impl Into<String>) -> StoreError {
        StoreError::Other { object: self.object(), cause: cause.into() }
    }
}

fn answer(status: u16, code: &str, message: &str) -> String {
    let parts = join(code, message);
    if parts.is_empty() {
        format!("the server answered {status}")
    } else {
        format!("the server answered {status}, {parts}")
    }
}

fn join(code: &str, message: &str) -> String {
    [code, message].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// The causes below the SDK's own "dispatch failure", which says nothing.
fn failure_cause(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}

fn credentials_error(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            return Some(chain(error));
        }
        cause = error.source();
    }
    None
}

/// The text of the first `<name>` in a small XML answer.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
