#![forbid(unsafe_code)]
pub mod catalog;
pub mod commit;
pub mod config;
pub mod decode;
pub mod encode;
pub mod error;
#[cfg(feature = "fake")]
pub mod fake;
pub mod fetch;
pub mod partition;
pub mod plan;
pub mod redact;
pub mod run;
pub mod spool;
pub mod utf8;
