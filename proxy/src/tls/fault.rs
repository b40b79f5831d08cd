//! The kinds of TLS failures, and whether a failure puts the pool's identity in doubt.

use rustls::{AlertDescription, CertificateError as Certificate, Error, InvalidMessage};

use super::trust::PinMismatch;
use crate::label::labels;

labels! {
    /// Why TLS with a pool failed.
    pub(crate) enum TlsFault {
        /// The certificate has no chain to a trusted authority, or there is none.
        Untrusted = "tls_untrusted",
        /// The certificate is for another host.
        WrongName = "tls_wrong_name",
        Expired = "tls_expired",
        NotYetValid = "tls_not_yet_valid",
        /// The key is none of the pinned ones.
        PinMismatch = "tls_pin_mismatch",
        /// The server does not speak TLS on this port.
        NotSpoken = "tls_not_spoken",
        /// There is no common version or cipher suite.
        Incompatible = "tls_incompatible",
        HandshakeTimeout = "tls_handshake_timeout",
        /// The connection ended during the handshake.
        Closed = "tls_closed",
        /// Bytes were changed in transit.
        Tampered = "tls_tampered",
        /// Every other failure.
        Failed = "tls_failed",
    }
}

impl TlsFault {
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            Error::NoCertificatesPresented => Self::Untrusted,
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotSpoken,
            Error::PeerIncompatible(_)
            | Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            ) => Self::Incompatible,
            Error::DecryptError
            | Error::AlertReceived(
                AlertDescription::BadRecordMac
                | AlertDescription::DecryptError
                | AlertDescription::DecryptionFailed,
            ) => Self::Tampered,
            _ => Self::Failed,
        }
    }

    fn of_certificate(certificate: &Certificate) -> Self {
        match certificate {
            Certificate::Expired | Certificate::ExpiredContext { .. } => Self::Expired,
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => Self::NotYetValid,
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            Certificate::Other(other) if other.0.downcast_ref::<PinMismatch>().is_some() => {
                Self::PinMismatch
            }
            _ => Self::Untrusted,
        }
    }

    /// Whether the peer is not the pool, or does not support our TLS. Another attempt within
    /// seconds would not change that.
    pub(crate) const fn is_identity(self) -> bool {
        match self {
            Self::Untrusted
            | Self::WrongName
            | Self::Expired
            | Self::NotYetValid
            | Self::PinMismatch
            | Self::NotSpoken
            | Self::Incompatible => true,
            Self::HandshakeTimeout | Self::Closed | Self::Tampered | Self::Failed => false,
        }
    }
}

/// Describes a TLS failure for people.
pub(crate) fn detail(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(Certificate::Other(other)) => other.0.to_string(),
        other => other.to_string(),
    }
}
