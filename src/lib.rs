#![forbid(unsafe_code)]
pub mod catalog;
pub mod commit;
pub mod decode;
pub mod encode;
pub mod error;
pub mod partition;
pub mod spool;
