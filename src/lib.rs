#![forbid(unsafe_code)]
pub mod catalog;
pub mod commit;
pub mod decode;
pub mod encode;
pub mod error;
pub mod fetch;
pub mod partition;
pub mod plan;
pub mod redact;
pub mod run;
pub mod spool;
pub mod utf8;
