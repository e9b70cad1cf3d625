//! Small mechanisms that know nothing of messages or of this product: timers, random numbers, memory, escapes.

pub mod alarm;
pub mod escape;
pub mod float;
pub mod memory;
pub mod moment;
pub mod random;
pub mod wheel;
