//! The roles' hosts: each gives its role's real core what the world brings, and carries out what the
//! core wants. They decide nothing; what they do stands in the roles' tasks in production.

pub(crate) mod agent;
pub(crate) mod proxy;
pub(crate) mod sessions;
pub(crate) mod switchboard;
