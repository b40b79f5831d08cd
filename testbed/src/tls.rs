//! TLS identities for pools: certificate authorities, and good and bad certificates.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};

/// Why an identity cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A certificate and its key do not match, or cannot be used.
    #[error("cannot use the certificate: {0}")]
    Use(#[from] rustls::Error),
    /// A file is not PEM.
    #[error("cannot read the certificate or its key: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// A certificate with its key: the identity of a pool.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    config: Arc<ServerConfig>,
}

/// The validity period of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Now,
    /// Until the year 2000.
    Past,
    /// From the year 4000.
    Future,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Creates a self-signed identity. Returns also its certificate as PEM.
    ///
    /// # Errors
    /// [`TlsError`] for names that a certificate cannot have.
    pub fn self_signed(names: &[&str]) -> Result<(Self, String), TlsError> {
        let key = KeyPair::generate()?;
        let certificate = params(names, Validity::Now)?.self_signed(&key)?;
        let identity = Self::new(vec![certificate.der().clone()], der(&key))?;
        Ok((identity, certificate.pem()))
    }

    /// Reads a certificate chain and its key as PEM.
    ///
    /// # Errors
    /// [`TlsError`] if they cannot be read or do not match.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
        Self::new(chain, PrivateKeyDer::from_pem_slice(key)?)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
                .with_no_client_auth()
                .with_single_cert(chain.clone(), key.clone_key())?;
        Ok(Self { chain, key: Arc::new(key), config: Arc::new(config) })
    }

    /// The same identity with a chain of this many certificates.
    ///
    /// # Errors
    /// Those of [`Self::self_signed`].
    pub fn padded(&self, certificates: usize) -> Result<Self, TlsError> {
        let chain = self.chain.iter().cycle().take(certificates).cloned().collect();
        Self::new(chain, self.key.clone_key())
    }

    /// The SHA-256 of the identity's public key, in the form of a configured pin.
    ///
    /// # Errors
    /// [`TlsError::Use`] for a certificate that cannot be read.
    pub fn pin(&self) -> Result<String, TlsError> {
        let [leaf, ..] = &self.chain[..] else {
            return Err(rustls::Error::NoCertificatesPresented.into());
        };
        let key = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
        Ok(format!("sha256/{}", STANDARD.encode(Sha256::digest(key.as_ref()))))
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn new(name: &str) -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate, for clients that trust it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for a new key under these names.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn issue(&self, names: &[&str], validity: Validity) -> Result<Identity, TlsError> {
        let key = KeyPair::generate()?;
        let certificate = params(names, validity)?.signed_by(&key, &self.issuer)?;
        Identity::new(vec![certificate.der().clone()], der(&key))
    }
}

fn params(names: &[&str], validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    match validity {
        Validity::Now => {}
        Validity::Past => params.not_after = date_time_ymd(2000, 1, 1),
        Validity::Future => params.not_before = date_time_ymd(4000, 1, 1),
    }
    Ok(params)
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.serialize_der().into())
}
