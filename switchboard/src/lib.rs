//! The control plane: it holds the facility's electrical truth, the policy and the ledger of leases, and decides which
//! machines go when, so that committed power is proven free before it is needed.

pub mod facility;
pub mod policy;
