//! The tests, by what they are about.

mod command;
mod hostile;
mod kill;
mod kinds;
mod resume;
