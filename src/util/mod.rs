//! Small mechanisms that know nothing of HTTP or of this product: timers.

pub mod moment;
pub mod random;
pub mod wheel;
