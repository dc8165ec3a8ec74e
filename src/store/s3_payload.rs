//! Whether the digest of a body is signed in addition to the header that names it.
//!
//! Each body goes up with its SHA-256 in a checksum header, which the signature covers. A server that checks that
//! header needs no second digest in the signature itself; with one it hashes every body twice. That it checks shows by
//! its answer, which repeats the checksum. Until it has said so the digest is signed; and from then on, too, where a
//! body without one was refused, as the policy of a bucket may demand.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::crypto::Digest;

/// The SHA-256 as S3 writes it in a header.
pub(super) fn checksum(digest: Digest) -> String {
    BASE64_STANDARD.encode(digest.as_bytes())
}

/// What one server has shown so far.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    checked: AtomicBool,
    refused: AtomicBool,
}

impl Payloads {
    /// How the next body is signed.
    pub fn sign(&self, digest: Digest) -> Payload {
        let unsigned = self.checked.load(Ordering::Relaxed) && !self.refused.load(Ordering::Relaxed);
        if unsigned { Payload::Unsigned } else { Payload::Signed(digest) }
    }

    /// The server took a body of `digest` and answered with this checksum.
    pub fn answered(&self, digest: Digest, checksum_sha256: Option<&str>) {
        if checksum_sha256 == Some(&checksum(digest)) {
            self.checked.store(true, Ordering::Relaxed);
        }
    }

    /// A body that went up as `payload` was refused with `status`: whether that may be for want of its digest. Then all
    /// are signed from here on.
    pub fn refused(&self, payload: Payload, status: Option<u16>) -> bool {
        let refused = payload == Payload::Unsigned && matches!(status, Some(400 | 403 | 501));
        self.refused.fetch_or(refused, Ordering::Relaxed);
        refused
    }
}

/// What the signature says of the body. A digest that is known is not computed again for each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Unsigned,
    Signed(Digest),
}

impl Intercept for Payload {
    fn name(&self) -> &'static str {
        "Payload"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(match self {
            Self::Unsigned => PayloadSigningOverride::UnsignedPayload,
            Self::Signed(digest) => PayloadSigningOverride::Precomputed(digest.to_string()),
        });
        Ok(())
    }
}
