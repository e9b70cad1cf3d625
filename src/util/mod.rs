//! Small mechanisms that know nothing of HTTP or of this product: timers.

pub mod alarm;
pub mod float;
pub mod moment;
pub mod random;
pub mod wheel;
