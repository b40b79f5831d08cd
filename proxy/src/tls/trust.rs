//! How a pool's identity is checked if not by the usual chain of authorities.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use serde::{Deserialize, Serialize};

use super::pin::Pin;

/// What a target's TLS trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// The authorities of this system, for the host's name.
    Platform,
    /// The authorities of `tls_ca_file`, for the host's name.
    Authorities,
    /// The holder of a pinned key.
    Pins,
    Anybody,
}

/// The pool's key is none of the pinned ones.
#[derive(Debug, thiserror::Error)]
#[error("the pool's key is {seen}, which is not pinned")]
pub(super) struct PinMismatch {
    seen: Pin,
}

/// Accepts a peer by its key alone. The signature in the handshake, which is always checked, proves
/// that the peer holds the key. Name, dates and issuer of the certificate are not checked, as with
/// SSH host keys: so pools with self-signed certificates can be pinned.
#[derive(Debug)]
pub(super) struct KeyVerifier {
    /// The pinned keys; `None` accepts any key.
    pins: Option<Vec<Pin>>,
    provider: Arc<CryptoProvider>,
}

impl KeyVerifier {
    pub(super) fn pins(pins: Vec<Pin>, provider: Arc<CryptoProvider>) -> Self {
        Self { pins: Some(pins), provider }
    }

    pub(super) fn anybody(provider: Arc<CryptoProvider>) -> Self {
        Self { pins: None, provider }
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(pins) = &self.pins else { return Ok(ServerCertVerified::assertion()) };
        let seen = Pin::of(&ParsedCertificate::try_from(end_entity)?.subject_public_key_info());
        if pins.contains(&seen) {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = OtherError(Arc::new(PinMismatch { seen }));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(mismatch)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
