//! The generated items. They are few and plain: `cargo expand` shows what a person would write.
//!
//! They name everything by a full path, so that an author's own `Result` or `Clone` changes nothing.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, ItemFn, LitStr};

use crate::args::Args;
use crate::function::Kind;
use crate::signature::{Role, Shape};

pub(crate) fn generate(
    kind: Kind,
    args: &Args,
    function: &ItemFn,
    shape: &Shape<'_>,
) -> TokenStream {
    let krate = &args.krate;
    let ItemFn { attrs, vis, sig, block, .. } = function;
    let (docs, others): (Vec<&Attribute>, Vec<&Attribute>) =
        attrs.iter().partition(|attribute| attribute.path().is_ident("doc"));
    let ident = &sig.ident;
    let name = args.name.clone().unwrap_or_else(|| {
        let text = ident.to_string();
        LitStr::new(text.strip_prefix("r#").unwrap_or(&text), ident.span())
    });

    let input = shape.roles.iter().find_map(|role| match role {
        Role::Input(ty) => Some(*ty),
        Role::Context | Role::State(_) => None,
    });
    let input_type = input.map_or_else(|| quote!(()), |ty| quote!(#ty));
    let (kind_trait, return_trait) = match kind {
        Kind::Orchestrator => (format_ident!("Orchestrator"), format_ident!("OrchestratorReturn")),
        Kind::Activity => (format_ident!("Activity"), format_ident!("ActivityReturn")),
    };
    let returned = shape.returned;
    let output_type =
        quote_spanned!(returned.span()=> <#returned as #krate::#return_trait>::Output);
    let registration = registration(kind, args, shape);

    let (asyncness, parameters, output) = (&sig.asyncness, &sig.inputs, &sig.output);
    let run_doc = format!("The function itself, as `{ident}` was written: for unit tests.");
    quote! {
        #(#docs)*
        #[allow(non_camel_case_types)]
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #vis struct #ident;

        impl #ident {
            #[doc = #run_doc]
            #[allow(
                clippy::missing_errors_doc,
                clippy::missing_panics_doc,
                clippy::needless_pass_by_value,
                clippy::unused_async,
                clippy::unused_self
            )]
            #(#others)*
            #vis #asyncness fn run(self, #parameters) #output #block
        }

        impl #krate::#kind_trait for #ident {
            const NAME: &'static ::core::primitive::str = #name;
            type Input = #input_type;
            type Output = #output_type;
        }

        impl #krate::Register for #ident {
            #[allow(unused_variables)]
            fn register(self, registry: &mut #krate::Registry) {
                #registration
            }
        }
    }
}

fn registration(kind: Kind, args: &Args, shape: &Shape<'_>) -> TokenStream {
    let krate = &args.krate;
    let passed = shape.roles.iter().map(|role| match role {
        Role::Context => quote!(context),
        Role::State(ty) => {
            quote_spanned!(ty.span()=> <#ty as #krate::FromStates>::from_states(states)?)
        }
        Role::Input(_) => quote!(input),
    });
    match kind {
        Kind::Orchestrator => quote! {
            registry.add_orchestrator::<Self, _, _>(move |context, input| self.run(#(#passed),*));
        },
        Kind::Activity => {
            let states = shape.roles.iter().filter_map(|role| match role {
                Role::State(ty) => {
                    Some(quote_spanned!(ty.span()=> <#ty as #krate::FromStates>::required()))
                }
                Role::Context | Role::Input(_) => None,
            });
            let add = match args.blocking {
                None => format_ident!("add_activity"),
                Some(span) => format_ident!("add_blocking_activity", span = span),
            };
            quote! {
                registry.#add::<Self, _, _>(
                    &[#(#states),*],
                    move |context, states, input| ::core::result::Result::Ok(self.run(#(#passed),*)),
                );
            }
        }
    }
}
