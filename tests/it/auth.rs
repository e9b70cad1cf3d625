//! Who may use a route.

mod basic;
