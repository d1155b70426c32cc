//! Turns the catalog into objects of every shape, sends them through the stages, and compares what comes out.
//!
//! `objects` makes pages from the catalog's own columns, `rebuild` makes objects from rows again and
//! knows nothing of the decoder; everything else states what must hold between the two.

mod json;
mod values;

mod edits;
mod objects;

mod lake;
mod rebuild;

mod agreement;
mod decoders;
mod files;
mod frames;
mod merging;
mod rejects;
mod round_trip;
mod samples;
mod upgrade;
mod writing_styles;
