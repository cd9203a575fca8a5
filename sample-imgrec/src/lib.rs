//! A picture gallery: each picture goes through upload, resize, analyze, persist and notify.
//!
//! | module | holds |
//! | --- | --- |
//! | [`picture`] | what is accepted, decoding, turning upright, thumbnails |
//! | [`analyze`] | colours, kind, sharpness, hashes: only what pixels and headers say |
//! | [`folder`] | the data folder on disk |
//! | [`record`] | what is kept about a picture |
//! | [`workflow`] | the steps and their order: a durable orchestration |
//! | [`process`] | the command that takes pictures in |
//! | [`cli`], [`report`], [`log`] | the command line and what is seen of the work |
//! | [`samples`] | pictures to try it out with |

pub mod analyze;
pub mod cli;
pub mod folder;
pub mod log;
pub mod picture;
pub mod process;
pub mod record;
pub mod report;
pub mod samples;
pub mod workflow;
