//! The faults of a line that close its connection, including lines of other protocols.
//!
//! An error inside a well-formed message is not a fault: it is answered ([`crate::error`]).

/// Why a line closes the connection: the peer speaks a different protocol, or sends what no miner
/// and no pool sends by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LineFault {
    /// The line is not UTF-8.
    #[error("line is not UTF-8")]
    NotUtf8,
    /// The line is not one JSON object.
    #[error("line is not one JSON object")]
    Json,
    /// Arrays and objects nest deeper than 8.
    #[error("JSON nests deeper than 8")]
    TooDeep,
    /// An object has the same key twice.
    #[error("JSON has a key twice")]
    DuplicateKey,
    /// The id is a string or number that is too long or not printable, so that it cannot be echoed.
    #[error("id is too long or not printable ASCII")]
    BadId,
    /// There are more than 16 params, extensions or unknown keys.
    #[error("more than 16 params")]
    TooManyParams,
    /// The hello of a TLS client, on a port without TLS.
    #[error("TLS hello on a plain port")]
    TlsOnPlain,
    /// An HTTP request.
    #[error("HTTP request")]
    Http,
    /// A PROXY protocol header where none is expected.
    #[error("PROXY protocol header")]
    ProxyHeader,
    /// An SSH banner.
    #[error("SSH banner")]
    Ssh,
}

impl LineFault {
    /// Recognises other protocols by their first bytes. A TLS hello may contain no newline, so a
    /// caller can also use this on the first bytes of a connection, before there is a whole line.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        const METHODS: [&[u8]; 9] = [
            b"GET ",
            b"POST ",
            b"HEAD ",
            b"PUT ",
            b"DELETE ",
            b"OPTIONS ",
            b"CONNECT ",
            b"PATCH ",
            b"PRI * HTTP",
        ];
        // The signature of version 2 is `\r\n\r\n\0\r\nQUIT\n`. Split into lines it is two empty
        // lines, a NUL and a QUIT.
        const PROXY: [&[u8]; 4] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n", b"\0", b"QUIT"];
        if bytes.starts_with(&[0x16, 0x03]) {
            return Some(Self::TlsOnPlain);
        }
        if METHODS.iter().any(|method| bytes.starts_with(method)) {
            return Some(Self::Http);
        }
        if bytes.starts_with(PROXY[0])
            || bytes.starts_with(PROXY[1])
            || bytes == PROXY[2]
            || bytes == PROXY[3]
        {
            return Some(Self::ProxyHeader);
        }
        bytes.starts_with(b"SSH-").then_some(Self::Ssh)
    }
}
