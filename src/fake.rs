//! Turns a seed into a consistent Stripe account, and that into an HTTP server.
//!
//! The account is a model of the API of version [`API_VERSION`]: six resources, their lists with windows and cursors,
//! single objects, the account itself, and the errors that the API answers. No object is stored. Each is a function of
//! the seed and its index, and its id holds the index, so a million charges cost nothing until somebody reads them.
//!
//! From the inside out: `density` and `timeline` say when each object was created and `id` what it is called; `customer`,
//! `charge`, `refund`, `balance`, `price`, `subscription` and `item` make one object each and write it; `query` and `list`
//! find the rows of a page; `respond` puts it together, `serve` listens, `connection` reads and `wire` writes. `in_process`
//! leads a sync to it without a network. `script` decides which requests meet a fault, `fault` says which faults a server
//! knows, and `changes` what happens to the account meanwhile.

// What everything is made of.
mod chance;
mod density;
mod id;
mod json;
mod money;
mod timeline;
mod words;

// The account and its objects.
mod account;
mod balance;
mod card;
mod charge;
mod customer;
mod item;
mod method;
mod outcome;
mod price;
mod profile;
mod refund;
mod subscription;

// From a request to a response.
mod changes;
mod list;
mod query;
mod request;
mod respond;

// From a connection to an answer on it, with faults.
mod connection;
pub mod fault;
mod fault_file;
mod serve;
mod traffic;
mod wire;

// The account without a network, and faults in front of it.
mod in_process;
pub mod script;

#[cfg(test)]
mod tests;

pub use account::{Account, Requests, Resource, Spec};
pub use density::Density;
pub use fault::Faults;
pub use fault_file::{FAULTS_HELP, parse_duration};
pub use in_process::InProcess;
pub use request::{Request, Response, parse_authorization, parse_query};
pub use respond::API_VERSION;
pub use serve::{serve, serve_with};
pub use traffic::Rates;
