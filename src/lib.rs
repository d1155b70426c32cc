//! Keeps a Parquet lake equal to a Stripe account.
//!
//! # Layout
//!
//! In the order in which data flows; each stage is one file and a folder of the same name.
//!
//! * [`config`]: flags, environment and file into one configuration; finds the key.
//! * [`catalog`]: `data/resources/*.toml` into resources and their columns. No other code knows a
//!   resource by name.
//! * [`plan`]: the span of a resource into slices over `created`, newest first.
//! * [`fetch`]: a slice into pages: limits, retries, cursor, and the envelope that every page must have.
//! * [`decode`]: the bytes of pages into Arrow batches; every JSON leaf ends in exactly one column.
//! * [`partition`]: creation times into partitions, and a batch into one batch for each.
//! * [`spool`]: batches in any order into sorted runs, in bounded memory.
//! * [`encode`]: sorted runs and the old file into one new Parquet file, each id once.
//! * [`commit`]: finished files into the lake, whole or not at all; state, lock.
//! * [`run`]: the story. The only place that calls the stages, and starts their tasks.
//!
//! Beside them: [`error`] (one error, one kind for each exit code), [`redact`] (text that may be shown),
//! [`crc`], [`ipc`], [`nulls`], [`tokens`], [`walk`] and [`utf8`], and [`fake`], a Stripe account on loopback for the demo and for tests.
//!
//! # The walk of one page
//!
//! 1. A worker (`run/slices.rs`) takes a [`plan::Slice`], say the charges created in March.
//! 2. [`fetch::slice::SliceReader`] asks for its next page. [`fetch::Fetcher`] waits for the limiter, sends
//!    one GET through [`fetch::Transport`], and repeats it where that helps.
//! 3. Before the page is accepted, [`decode::Decoder`] turns it into rows, and tells its [`decode::frame::Frame`];
//!    [`fetch::envelope::Envelope`] looks at odd pages, and refuses what is no proper list. Then the worker tells the
//!    plan how far it got.
//! 4. A [`decode::Decoded`] batch goes to the gatherer of its resource (`run/gather.rs`), which lets
//!    [`partition::split`] cut it and puts the parts into its [`spool::Spool`].
//! 5. Until all seconds of a partition have been read ([`plan::coverage::Coverage`]), its rows wait, and are written down
//!    every second for the case that the run is killed. Then the gatherer commits it:
//!    [`encode::merge::Merge`] walks the old file and the new runs and keeps the newest row of each id,
//!    [`encode::write`] makes the file, [`commit::Lake::replace`] puts it in the place of the old one.
//!    If no row differs, nothing is written.
//! 6. The resource's [`commit::state::ResourceState`] follows, always after the files it speaks of, with the
//!    seconds that a later run need not list again.
//!
//! `ARCHITECTURE.md` says who may name whom and why things are as they are.

#![forbid(unsafe_code)]

pub mod config;
pub mod catalog;
pub mod plan;
pub mod fetch;
pub mod decode;
pub mod partition;
pub mod spool;
pub mod encode;
pub mod commit;
pub mod run;

pub mod error;
pub mod redact;
pub mod crc;
pub mod ipc;
pub mod nulls;
pub mod tokens;
pub mod utf8;
pub mod walk;

#[cfg(feature = "fake")]
pub mod fake;
