//! Which connection a request came on. The listener adds it to each request; who may do what is left
//! to the guard and the token.

use std::net::SocketAddr;

/// Both ends of the connection that a request came on, as a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub remote: SocketAddr,
    /// Our address as the caller reached it.
    pub local: SocketAddr,
}
