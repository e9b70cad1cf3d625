//! Small mechanisms that know nothing of HTTP or of this product: timers, random numbers, memory.

pub mod alarm;
pub mod float;
pub mod memory;
pub mod moment;
pub mod random;
pub mod wheel;
