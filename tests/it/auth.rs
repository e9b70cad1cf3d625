//! Who may use a route.

mod basic;
mod external;
