//! The arguments of the attributes.

use proc_macro2::{Span, TokenStream};
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, LitStr, Meta, Path, Token, parse_quote};

use crate::function::Kind;
use crate::guard::Key;
use crate::problems::Problems;

pub(crate) struct Args {
    /// The name to register, where it is not the function's.
    pub(crate) name: Option<LitStr>,
    /// Where `blocking` was written, if it was.
    pub(crate) blocking: Option<Span>,
    /// The crate that the generated code uses. The one place that knows its default.
    pub(crate) krate: Path,
    /// What the body may do all the same.
    pub(crate) allowed: Vec<(Key, Ident)>,
}

impl Args {
    pub(crate) fn parse(kind: Kind, tokens: TokenStream, problems: &mut Problems) -> Self {
        let mut args = Self {
            name: None,
            blocking: None,
            krate: parse_quote!(::durable_core),
            allowed: Vec::new(),
        };
        let mut seen = Vec::new();
        let parser = syn::meta::parser(|meta| {
            if let Some(argument) = meta.path.get_ident().map(ToString::to_string)
                && argument != "allow"
            {
                if seen.contains(&argument) {
                    problems.push(meta.error(format!("`{argument}` is given twice")));
                }
                seen.push(argument);
            }
            args.argument(kind, &meta, problems)
        });
        if let Err(error) = parser.parse2(tokens) {
            problems.push(error);
        }
        args
    }

    fn argument(
        &mut self,
        kind: Kind,
        meta: &ParseNestedMeta<'_>,
        problems: &mut Problems,
    ) -> syn::Result<()> {
        if meta.path.is_ident("name") {
            let name: LitStr = meta.value()?.parse()?;
            if name.value().is_empty() {
                problems.add(&name, "the registered name is empty");
            }
            self.name = Some(name);
        } else if meta.path.is_ident("crate") {
            self.krate = meta.value()?.parse::<LitStr>()?.parse()?;
        } else if meta.path.is_ident("blocking") {
            self.blocking = Some(meta.path.segments[0].ident.span());
            if kind == Kind::Orchestrator {
                problems.push(meta.error(
                    "an orchestrator cannot be blocking: it waits by awaiting; put blocking work \
                     into an `#[activity(blocking)]`",
                ));
            }
        } else if meta.path.is_ident("allow") {
            self.allow(kind, meta, problems)?;
        } else {
            problems.push(meta.error(match kind {
                Kind::Orchestrator => {
                    "unknown argument; `#[orchestrator]` takes `name = \"…\"`, `crate = \"…\"` and \
                     `allow(…, reason = \"…\")`"
                }
                Kind::Activity => {
                    "unknown argument; `#[activity]` takes `blocking`, `name = \"…\"` and \
                     `crate = \"…\"`"
                }
            }));
            skip_value(meta)?;
        }
        Ok(())
    }

    fn allow(
        &mut self,
        kind: Kind,
        meta: &ParseNestedMeta<'_>,
        problems: &mut Problems,
    ) -> syn::Result<()> {
        if meta.input.is_empty() || meta.input.peek(Token![,]) {
            problems.push(meta.error(format!(
                "say what is allowed and why: `allow(clock, reason = \"…\")`. {}",
                Key::list()
            )));
            return Ok(());
        }
        let content;
        syn::parenthesized!(content in meta.input);
        let items = Punctuated::<Meta, Token![,]>::parse_terminated(&content)?;
        if kind == Kind::Activity {
            problems
                .push(meta.error("an activity may do anything; only orchestrators need `allow`"));
            return Ok(());
        }
        let mut reason = false;
        for item in &items {
            match item {
                Meta::Path(path) => {
                    let known = path
                        .get_ident()
                        .and_then(|ident| Some((Key::named(&ident.to_string())?, ident.clone())));
                    match known {
                        Some((key, ident)) if self.allowed.iter().any(|(old, _)| *old == key) => {
                            problems.add(&ident, format!("`{ident}` is allowed twice"));
                        }
                        Some(allowed) => self.allowed.push(allowed),
                        None => problems.add(path, format!("unknown key. {}", Key::list())),
                    }
                }
                Meta::NameValue(given) if given.path.is_ident("reason") => {
                    reason = true;
                    if !is_text(&given.value) {
                        problems.add(
                            &given.value,
                            "the reason is a string: why can it not change what a replay does?",
                        );
                    }
                }
                other @ (Meta::NameValue(_) | Meta::List(_)) => {
                    problems.add(other, "`allow` takes keys, and `reason = \"…\"`");
                }
            }
        }
        if !reason {
            problems.push(meta.error(
                "`allow` needs a reason: why can it not change what a replay does? \
                 `allow(clock, reason = \"…\")`",
            ));
        }
        Ok(())
    }
}

/// Whether it is a string with something in it.
fn is_text(value: &Expr) -> bool {
    let Expr::Lit(literal) = value else { return false };
    matches!(&literal.lit, syn::Lit::Str(text) if !text.value().trim().is_empty())
}

/// Goes past what an unknown argument is given.
fn skip_value(meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let content;
        syn::parenthesized!(content in meta.input);
        content.parse::<TokenStream>()?;
    }
    Ok(())
}
