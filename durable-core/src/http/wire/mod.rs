//! What instances look like on the wire.

mod history;
mod status;
#[cfg(test)]
mod tests;

pub(super) use history::history;
pub(super) use status::StatusBody;
#[cfg(test)]
pub(super) use status::tests::row;

/// What of an instance is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// Inputs: its own, and those in its history.
    pub(super) inputs: bool,
    /// Results in its history.
    pub(super) results: bool,
    /// Inputs of activities in its history.
    pub(super) activity_inputs: bool,
}
