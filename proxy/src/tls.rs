//! TLS to pools: how a pool proves its identity, and the names of failures.
//!
//! A [`Tls`] is made once per target while the configuration is read, so that a missing authority
//! or a mistyped pin is a configuration mistake with a place. [`crate::upstream`] moves the bytes.
//!
//! Only versions 1.2 and 1.3 are used. Sessions are never resumed: a resumed session does not check
//! the certificate, and a certificate that has changed or expired must be noticed at the next
//! connection (F19). Revocation is not checked: the lists are large, online answers are rarely
//! available, and the key of a pool can be pinned.

mod fault;
mod pin;
mod trust;

use std::fmt;
use std::io::BufReader;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

pub(crate) use fault::{TlsFault, detail};
pub use pin::Pin;
pub use trust::Trust;

/// How to reach a target by TLS.
#[derive(Clone)]
pub struct Tls {
    trust: Trust,
    client: Arc<ClientConfig>,
}

/// Why the pool's identity could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system has no authorities, usually because a container lacks the package.
    #[error(
        "this system has no certificate authorities ({0}): install ca-certificates, or give tls_ca_file or tls_pin"
    )]
    NoPlatformRoots(String),
    /// The file contains no certificate.
    #[error("no certificate in it: a file with -----BEGIN CERTIFICATE----- is needed")]
    NoCertificate,
    /// A certificate in the file cannot be used.
    #[error("{0}")]
    BadCertificate(String),
}

impl Tls {
    /// Trusts the system's authorities: a certificate must chain to one of them and have the host's
    /// name.
    ///
    /// # Errors
    /// [`TlsError::NoPlatformRoots`].
    pub fn platform() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some certificates of a system cannot be parsed by any library; the others are used.
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why =
                found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(TlsError::NoPlatformRoots(why));
        }
        Ok(Self::chained(Trust::Platform, roots))
    }

    /// Trusts only these authorities, given as PEM text.
    ///
    /// # Errors
    /// [`TlsError`] if a certificate is missing or unreadable.
    pub fn authorities(pem: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_reader_iter(BufReader::new(pem)) {
            let certificate =
                certificate.map_err(|fault| TlsError::BadCertificate(fault.to_string()))?;
            roots.add(certificate).map_err(|fault| TlsError::BadCertificate(fault.to_string()))?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(Self::chained(Trust::Authorities, roots))
    }

    /// Trusts these keys, in any certificate.
    #[must_use]
    pub fn pinned(pins: Vec<Pin>) -> Self {
        Self::verified(Trust::Pins, Arc::new(trust::KeyVerifier::pins(pins, provider())))
    }

    /// Trusts any server: an attacker between us and the pool can read and change everything.
    #[must_use]
    pub fn unverified() -> Self {
        Self::verified(Trust::Anybody, Arc::new(trust::KeyVerifier::anybody(provider())))
    }

    #[must_use]
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    fn chained(trust: Trust, roots: RootCertStore) -> Self {
        let config = builder().with_root_certificates(roots).with_no_client_auth();
        Self::finished(trust, config)
    }

    fn verified(trust: Trust, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let config =
            builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Self::finished(trust, config)
    }

    fn finished(trust: Trust, mut config: ClientConfig) -> Self {
        config.resumption = Resumption::disabled();
        Self { trust, client: Arc::new(config) }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("trust", &self.trust).finish_non_exhaustive()
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites for both versions")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The name that the certificate of a host must have; `None` if the host is neither a DNS name nor
/// an address.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named() {
        assert!(matches!(Tls::authorities(b"hello"), Err(TlsError::NoCertificate)));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Tls::authorities(broken), Err(TlsError::BadCertificate(_))));
    }

    #[test]
    fn u59_hosts_that_no_certificate_can_bear_are_no_name() {
        for host in ["pool.example", "127.0.0.1", "::1"] {
            assert!(server_name(host).is_some(), "{host}");
        }
        for host in ["pool.example ", "", "a_b..c", "x\0y"] {
            assert!(server_name(host).is_none(), "{host:?}");
        }
    }

    #[test]
    fn nothing_that_is_trusted_is_told_when_it_is_printed() {
        let printed = format!("{:?}", Tls::unverified());
        assert_eq!(printed, "Tls { trust: Anybody, .. }");
    }
}
