//! The two addresses of the connection that a request came on. The listener adds them to each
//! request. The guard and the token check decide what the caller may do.

use std::net::SocketAddr;

/// Both ends of a request's connection, as an extension of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub remote: SocketAddr,
    /// The address of ours to which the caller connected.
    pub local: SocketAddr,
}
