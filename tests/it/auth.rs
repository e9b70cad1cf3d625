//! Who may use a route.

mod basic;
mod cache;
mod external;
