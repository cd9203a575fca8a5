//! The arguments of the attributes.

use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::{LitStr, Path, parse_quote};

use crate::function::Kind;

pub(crate) struct Args {
    /// The name to register, where it is not the function's.
    pub(crate) name: Option<LitStr>,
    /// Where `blocking` was written, if it was.
    pub(crate) blocking: Option<Span>,
    /// The crate that the generated code uses. The one place that knows its default.
    pub(crate) krate: Path,
}

impl Args {
    pub(crate) fn parse(kind: Kind, tokens: TokenStream) -> syn::Result<Self> {
        let mut args = Self { name: None, blocking: None, krate: parse_quote!(::durable_core) };
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                let name: LitStr = meta.value()?.parse()?;
                if name.value().is_empty() {
                    return Err(syn::Error::new(name.span(), "the registered name is empty"));
                }
                args.name = Some(name);
                Ok(())
            } else if meta.path.is_ident("crate") {
                args.krate = meta.value()?.parse::<LitStr>()?.parse()?;
                Ok(())
            } else if meta.path.is_ident("blocking") {
                match kind {
                    Kind::Activity => {
                        args.blocking = Some(meta.path.segments[0].ident.span());
                        Ok(())
                    }
                    Kind::Orchestrator => Err(meta.error(
                        "an orchestrator cannot be blocking: it waits by awaiting; put blocking work \
                         into an #[activity(blocking)]",
                    )),
                }
            } else {
                Err(meta.error(match kind {
                    Kind::Orchestrator => {
                        "unknown argument; #[orchestrator] takes `name = \"…\"` and `crate = \"…\"`"
                    }
                    Kind::Activity => {
                        "unknown argument; #[activity] takes `blocking`, `name = \"…\"` and \
                         `crate = \"…\"`"
                    }
                }))
            }
        });
        parser.parse2(tokens)?;
        Ok(args)
    }
}
