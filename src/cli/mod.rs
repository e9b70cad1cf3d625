//! The commands of the binary: arguments to calls. Sees every room; nothing imports it.

pub mod demo;
