//! Stories: what happens to instances, told line by line, on one partition or several over the model of a
//! store. `story.rs` has the language and the one function that knows the API, `book.rs` the orchestrators.

mod book;
mod calls;
mod children;
mod deadlines;
mod ends;
mod events;
mod faults;
mod generations;
mod golden;
mod heartbeats;
mod histories;
mod holds;
mod limits;
mod memory;
mod messages;
mod purges;
mod rewind;
mod scheduled;
mod scopes;
mod starts;
mod story;
mod suspends;
mod timers;
