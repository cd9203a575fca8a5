//! What an orchestrator's body must not do, as far as it can be seen there.
//!
//! A replay gives the code the same answers as before; what the code takes from elsewhere it gets anew.
//! The guard reads the body alone: functions that it calls, and what `use` outside of it brings in, are
//! known by their names only. So it knows well-known functions by the ends of their paths, follows `use`
//! and `type` in the body, and leaves alone what is declared there, or named by a path that begins with
//! `self`, `super` or `crate`.

mod body;
mod order;
mod rules;
mod scope;
#[cfg(test)]
mod tests;
mod tokens;

use std::cell::Cell;

use quote::ToTokens;
use syn::{FnArg, Ident, ItemFn, Pat};

use crate::problems::Problems;
use body::Body;
pub(crate) use rules::Key;

/// Adds a problem for each thing that the body must not do, and for each key that allows nothing.
pub(crate) fn check(function: &ItemFn, allowed: &[(Key, Ident)], problems: &mut Problems) {
    let mut refusals = Refusals {
        allowed: allowed.iter().map(|(key, _)| (*key, Cell::new(false))).collect(),
        context: context_name(function),
        problems,
    };
    Body::new(&mut refusals).function(&function.sig, &function.block);
    let unused: Vec<_> = refusals.allowed.iter().map(|(_, used)| !used.get()).collect();
    for ((key, ident), _) in allowed.iter().zip(unused).filter(|(_, unused)| *unused) {
        problems.add(
            ident,
            format!("`{}` allows nothing here: this function has nothing of the kind", key.name()),
        );
    }
}

/// What the author calls the context.
fn context_name(function: &ItemFn) -> String {
    let name = function.sig.inputs.first().and_then(|parameter| match parameter {
        FnArg::Typed(typed) => match &*typed.pat {
            Pat::Ident(pat) => Some(pat.ident.to_string()),
            _ => None,
        },
        FnArg::Receiver(_) => None,
    });
    name.unwrap_or_else(|| "ctx".into())
}

/// Collects refusals, but for those that the author allows.
struct Refusals<'a> {
    allowed: Vec<(Key, Cell<bool>)>,
    context: String,
    problems: &'a mut Problems,
}

impl Refusals<'_> {
    /// The sentence calls the context `ctx`.
    fn add(&mut self, key: Key, at: impl ToTokens, sentence: &str) {
        if let Some((_, used)) = self.allowed.iter().find(|(allowed, _)| *allowed == key) {
            used.set(true);
            return;
        }
        let sentence = sentence.replace("`ctx.", &format!("`{}.", self.context));
        self.problems.add(
            at,
            format!(
                "{sentence}\nif it cannot change what a replay does: `#[orchestrator(allow({}, \
                 reason = \"…\"))]`",
                key.name()
            ),
        );
    }
}
