//! What is carried out, one operation a file.

mod command;
mod list;
mod purge;
mod raise_event;
mod restart;
mod rewind;
mod start;
mod status;
mod wait;

pub(super) use command::{resume, suspend, terminate};
pub(super) use list::list;
pub(super) use purge::{purge, purge_many};
pub(super) use raise_event::raise_event;
pub(super) use restart::restart;
pub(super) use rewind::rewind;
pub(super) use start::start;
pub(super) use status::status;
pub(super) use wait::{Waiting, wait};

use super::refusal::Refusal;
use super::request::Ask;
use crate::{ClientError, Handle, Payload};

/// The instance of that id. None can have an id that breaks the rules.
fn instance(ask: &Ask<'_>, id: &str) -> Result<Handle<Payload>, Refusal> {
    ask.api.client.instance(id).map_err(|error| match error {
        ClientError::InvalidId(_) => Refusal::NotFound,
        error => error.into(),
    })
}
