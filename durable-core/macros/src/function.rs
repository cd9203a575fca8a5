//! From the author's function to the generated items.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, ItemFn, LitStr, PatType, PathArguments, ReturnType, Safety, Signature, Type,
};

use crate::args::Args;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Orchestrator,
    Activity,
}

impl Kind {
    /// With its article.
    fn noun(self) -> &'static str {
        match self {
            Self::Orchestrator => "an orchestrator",
            Self::Activity => "an activity",
        }
    }

    fn error_type(self) -> &'static str {
        match self {
            Self::Orchestrator => "OrchestrationError",
            Self::Activity => "ActivityError",
        }
    }

    fn context_type(self) -> &'static str {
        match self {
            Self::Orchestrator => "OrchestrationContext",
            Self::Activity => "ActivityContext",
        }
    }
}

pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let args = Args::parse(kind, args)?;
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        syn::Error::new(error.span(), format!("{} is a function: {error}", kind.noun()))
    })?;
    let mut problems = Problems::default();
    check_signature(kind, &args, &function.sig, &mut problems);
    let roles = roles(kind, &function.sig, &mut problems);
    let output = returned(kind, &function.sig, &mut problems);
    problems.report()?;
    let (Some(roles), Some(output)) = (roles, output) else {
        return Err(syn::Error::new(function.sig.span(), "the signature is not understood"));
    };
    Ok(generate(kind, &args, &function, &roles, output))
}

/// Everything that is wrong, so that it is reported at once.
#[derive(Default)]
struct Problems(Option<syn::Error>);

impl Problems {
    fn add(&mut self, at: impl ToTokens, sentence: impl std::fmt::Display) {
        let error = syn::Error::new_spanned(at, sentence);
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn report(&mut self) -> syn::Result<()> {
        self.0.take().map_or(Ok(()), Err)
    }
}

fn check_signature(kind: Kind, args: &Args, sig: &Signature, problems: &mut Problems) {
    let noun = kind.noun();
    if let Some(constness) = &sig.constness {
        problems.add(constness, format!("{noun} cannot be a const function"));
    }
    if let Safety::Unsafe(token) = &sig.safety {
        problems.add(
            token,
            format!("{noun} cannot be unsafe: the engine calls it and can promise nothing"),
        );
    }
    if let Some(abi) = &sig.abi {
        problems.add(abi, format!("{noun} is an ordinary Rust function, without `extern`"));
    }
    if let Some(variadic) = &sig.variadic {
        problems.add(variadic, format!("{noun} cannot take a variable number of arguments"));
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        let at = if sig.generics.params.is_empty() {
            sig.generics.where_clause.to_token_stream()
        } else {
            sig.generics.params.to_token_stream()
        };
        problems.add(
            at,
            format!(
                "{noun} cannot be generic: it is found by its name, and its input is read into one \
                 type. Write one function for each type and let them share a generic helper"
            ),
        );
    }
    match (kind, args.blocking, &sig.asyncness) {
        (Kind::Orchestrator, _, None) => {
            problems.add(sig.fn_token, "an orchestrator is an `async fn`");
        }
        (Kind::Activity, None, None) => problems.add(
            sig.fn_token,
            "an activity is an `async fn`; a function that blocks its thread is marked with \
             `#[activity(blocking)]`",
        ),
        (Kind::Activity, Some(_), Some(token)) => problems.add(
            token,
            "a blocking activity is not `async`: remove `async`, or `blocking` if it awaits",
        ),
        (Kind::Orchestrator, _, Some(_))
        | (Kind::Activity, None, Some(_))
        | (Kind::Activity, Some(_), None) => {}
    }
}

/// What a parameter is for.
enum Role<'a> {
    Context,
    State(&'a Type),
    Input(&'a Type),
}

fn roles<'a>(kind: Kind, sig: &'a Signature, problems: &mut Problems) -> Option<Vec<Role<'a>>> {
    let noun = kind.noun();
    let mut roles = Vec::new();
    let mut complete = true;
    let mut input_seen = false;
    for (position, parameter) in sig.inputs.iter().enumerate() {
        let PatType { ty, .. } = match parameter {
            FnArg::Typed(typed) => typed,
            FnArg::Receiver(receiver) => {
                problems.add(
                    receiver,
                    format!("{noun} is a free function: it has no `self`. Pass data as input"),
                );
                complete = false;
                continue;
            }
        };
        let role = role(kind, ty);
        match role {
            Role::Context if position > 0 => {
                problems.add(ty, "the context is the first parameter");
            }
            Role::Input(_) if position == 0 && kind == Kind::Orchestrator => {
                problems.add(
                    ty,
                    "the first parameter of an orchestrator is `ctx: OrchestrationContext`",
                );
            }
            Role::Input(_) if input_seen => problems.add(
                ty,
                format!(
                    "{noun} has one input; put several values into a struct or a tuple{}",
                    match kind {
                        Kind::Orchestrator => "",
                        Kind::Activity => ", and what the worker provides into a `State<T>`",
                    }
                ),
            ),
            Role::Input(_) => {
                check_input(noun, ty, problems);
                input_seen = true;
            }
            Role::Context | Role::State(_) => {}
        }
        roles.push(role);
    }
    if kind == Kind::Orchestrator && sig.inputs.is_empty() {
        problems.add(
            &sig.ident,
            "the first parameter of an orchestrator is `ctx: OrchestrationContext`",
        );
    }
    complete.then_some(roles)
}

fn check_input(noun: &str, ty: &Type, problems: &mut Problems) {
    match ty {
        Type::Reference(reference) => problems.add(
            reference,
            format!(
                "the input of {noun} is read from storage, so it must be owned: `String` instead of \
                 `&str`, `Vec<T>` instead of `&[T]`, `T` instead of `&T`"
            ),
        ),
        Type::ImplTrait(implementation) => problems.add(
            implementation,
            format!("the input of {noun} is read into one type: name it instead of `impl Trait`"),
        ),
        _ => {}
    }
}

fn role(kind: Kind, ty: &Type) -> Role<'_> {
    let Type::Path(path) = ty else { return Role::Input(ty) };
    let Some(last) = path.path.segments.last() else { return Role::Input(ty) };
    if last.ident == kind.context_type() && matches!(last.arguments, PathArguments::None) {
        Role::Context
    } else if kind == Kind::Activity
        && last.ident == "State"
        && matches!(last.arguments, PathArguments::AngleBracketed(_))
    {
        Role::State(ty)
    } else {
        Role::Input(ty)
    }
}

fn returned<'a>(kind: Kind, sig: &'a Signature, problems: &mut Problems) -> Option<&'a Type> {
    let advice = format!("{} returns `Result<T, {}>`", kind.noun(), kind.error_type());
    match &sig.output {
        ReturnType::Default => {
            problems.add(
                &sig.ident,
                format!(
                    "{advice}; one without a value returns `Result<(), {}>`",
                    kind.error_type()
                ),
            );
            None
        }
        ReturnType::Type(_, ty) => match &**ty {
            Type::ImplTrait(_) | Type::Never(_) => {
                problems.add(ty, advice);
                None
            }
            ty => Some(ty),
        },
    }
}

fn generate(
    kind: Kind,
    args: &Args,
    function: &ItemFn,
    roles: &[Role<'_>],
    returned: &Type,
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

    let input = roles.iter().find_map(|role| match role {
        Role::Input(ty) => Some(*ty),
        Role::Context | Role::State(_) => None,
    });
    let input_type = input.map_or_else(|| quote!(()), |ty| quote!(#ty));
    let (kind_trait, return_trait) = match kind {
        Kind::Orchestrator => (format_ident!("Orchestrator"), format_ident!("OrchestratorReturn")),
        Kind::Activity => (format_ident!("Activity"), format_ident!("ActivityReturn")),
    };
    let output_type =
        quote_spanned!(returned.span()=> <#returned as #krate::#return_trait>::Output);

    let passed = roles.iter().map(|role| match role {
        Role::Context => quote!(context),
        Role::State(ty) => {
            quote_spanned!(ty.span()=> <#ty as #krate::FromStates>::from_states(states)?)
        }
        Role::Input(_) => quote!(input),
    });
    let registration = match kind {
        Kind::Orchestrator => quote! {
            registry.add_orchestrator::<Self, _, _>(move |context, input| self.run(#(#passed),*));
        },
        Kind::Activity => {
            let states = roles.iter().filter_map(|role| match role {
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
    };

    let (asyncness, parameters, output) = (&sig.asyncness, &sig.inputs, &sig.output);
    let run_doc = format!("The function itself, as `{ident}` was written: for unit tests.");
    quote! {
        #(#docs)*
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug)]
        #vis struct #ident;

        impl #ident {
            #[doc = #run_doc]
            #[allow(clippy::missing_errors_doc, clippy::missing_panics_doc)]
            #(#others)*
            #vis #asyncness fn run(self, #parameters) #output #block
        }

        impl #krate::#kind_trait for #ident {
            const NAME: &'static str = #name;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the attribute says to a function; nothing where it takes it.
    fn sentences(kind: Kind, args: &str, item: &str) -> Vec<String> {
        let args = args.parse().expect("tokens");
        match expand(kind, args, item.parse().expect("tokens")) {
            Ok(code) => {
                syn::parse2::<syn::File>(code).expect("the generated code is Rust");
                Vec::new()
            }
            Err(errors) => errors.into_iter().map(|error| error.to_string()).collect(),
        }
    }

    #[track_caller]
    fn check(kind: Kind, args: &str, item: &str, expected: &[&str]) {
        let sentences = sentences(kind, args, item);
        assert_eq!(sentences.len(), expected.len(), "{item}: {sentences:#?}");
        for (sentence, expected) in sentences.iter().zip(expected) {
            assert!(sentence.contains(expected), "{item}: {sentence}");
        }
    }

    #[test]
    fn orchestrators_are_taken_or_refused_with_a_sentence() {
        let check = |args, item, expected: &[&str]| check(Kind::Orchestrator, args, item, expected);
        check("", "async fn f(ctx: OrchestrationContext) -> Result<(), E> { Ok(()) }", &[]);
        check(
            "name = \"F\", crate = \"a::b\"",
            "/// Doc.\n#[allow(unused)] pub(crate) async fn f(mut c: x::OrchestrationContext, \
             (a, b): (u8, u8),) -> R<u8> { Ok(a + b) }",
            &[],
        );
        check("", "fn f(ctx: OrchestrationContext) -> R { }", &["is an `async fn`"]);
        check("", "async fn f() -> R { }", &["first parameter of an orchestrator"]);
        check("", "async fn f(a: u8) -> R { }", &["first parameter of an orchestrator"]);
        check(
            "",
            "async fn f(a: u8, c: OrchestrationContext) -> R { }",
            &["first parameter of an orchestrator", "context is the first parameter"],
        );
        check("", "async fn f(c: OrchestrationContext, a: u8, b: u8) -> R { }", &["one input"]);
        check("", "async fn f(c: OrchestrationContext)", &["an orchestrator is a function"]);
        check("", "async fn f(c: OrchestrationContext) { }", &["returns `Result<T, Orch"]);
        check("blocking", "async fn f(c: OrchestrationContext) -> R { }", &["cannot be blocking"]);
        check("colour = 3", "async fn f(c: OrchestrationContext) -> R { }", &["unknown argument"]);
        check("name = \"\"", "async fn f(c: OrchestrationContext) -> R { }", &["name is empty"]);
        check(
            "",
            "const unsafe extern \"C\" fn f<T>(&self) -> ! where T: Copy { }",
            &[
                "const",
                "unsafe",
                "extern",
                "generic",
                "is an `async fn`",
                "no `self`",
                "returns `Result<T, Orch",
            ],
        );
    }

    #[test]
    fn activities_are_taken_or_refused_with_a_sentence() {
        let check = |args, item, expected: &[&str]| check(Kind::Activity, args, item, expected);
        check("", "async fn f() -> R { }", &[]);
        check("blocking", "fn f(c: ActivityContext, State(a): State<A>, i: I) -> R { }", &[]);
        check("", "async fn f(State(a): State<A>, i: I, s: a::State<Vec<B>>) -> R { }", &[]);
        // A type of the author's that happens to be called State is an input.
        check("", "async fn f(state: State) -> R { }", &[]);
        check("", "fn f() -> R { }", &["`#[activity(blocking)]`"]);
        check("blocking", "async fn f() -> R { }", &["is not `async`"]);
        check("", "async fn f(a: u8, c: ActivityContext) -> R { }", &["is the first parameter"]);
        check("", "async fn f(a: u8, b: u8) -> R { }", &["`State<T>`"]);
        check("", "async fn f(a: &str) -> R { }", &["must be owned"]);
        check("", "async fn f(a: impl Into<u8>) -> R { }", &["instead of `impl Trait`"]);
        check("", "async fn f() -> impl Copy { }", &["returns `Result<T, ActivityError>`"]);
        check("", "struct F;", &["an activity is a function"]);
    }
}
