//! Turns whole runs into checks: the fake account as Stripe, a store in memory as the lake, a paused clock.
//!
//! A test is named after the fault that it throws, as the table of faults names it.

mod harness;
mod json;
mod table;

mod answers;
mod archives;
mod auth;
mod complete;
mod conflict;
mod damage;
mod ends;
mod estimate;
mod lease;
mod left_out;
mod lost;
mod misplaced;
mod mixed_up;
mod moved;
mod network;
mod order;
mod older_copy;
mod outage;
mod paging;
mod payload;
mod policy;
mod random;
mod rejected;
mod resume;
mod sizes;
mod speed;
mod store;
mod untouched;
mod upgrade;
mod waiting;
