//! What Tieline is tested against, in place of the real world.

pub mod clock;
pub mod facility;
