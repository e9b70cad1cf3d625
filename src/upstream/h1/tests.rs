//! The codec against scripted peers.
