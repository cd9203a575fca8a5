//! What the engine needs of a function's signature.

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{FnArg, GenericParam, PathArguments, ReturnType, Safety, Signature, Type};

use crate::args::Args;
use crate::function::Kind;
use crate::problems::Problems;

/// A signature that is understood.
pub(crate) struct Shape<'a> {
    /// What each parameter is for.
    pub(crate) roles: Vec<Role<'a>>,
    pub(crate) returned: &'a Type,
}

/// What a parameter is for.
pub(crate) enum Role<'a> {
    Context,
    State(&'a Type),
    Input(&'a Type),
}

impl<'a> Shape<'a> {
    /// `None` where something is missing, which was added to the problems.
    pub(crate) fn of(
        kind: Kind,
        args: &Args,
        sig: &'a Signature,
        problems: &mut Problems,
    ) -> Option<Self> {
        qualifiers(kind, sig, problems);
        generics(kind, sig, problems);
        asyncness(kind, args, sig, problems);
        let roles = roles(kind, sig, problems);
        let returned = returned(kind, sig, problems)?;
        Some(Self { roles, returned })
    }
}

fn qualifiers(kind: Kind, sig: &Signature, problems: &mut Problems) {
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
}

fn generics(kind: Kind, sig: &Signature, problems: &mut Problems) {
    let noun = kind.noun();
    let parameters = &sig.generics.params;
    if parameters.is_empty() {
        if let Some(clause) = &sig.generics.where_clause {
            problems.add(
                clause,
                format!("{noun} has no `where` clause: without type parameters it says nothing"),
            );
        }
    } else if parameters.iter().all(|one| matches!(one, GenericParam::Lifetime(_))) {
        problems.add(
            parameters,
            format!(
                "{noun} has no lifetime parameter: its input is read from storage, and it owns all it \
                 is given"
            ),
        );
    } else {
        problems.add(
            parameters,
            format!(
                "{noun} cannot be generic: it is found by its name, and its input is read into one \
                 type. Write one function for each type and let them share a generic helper"
            ),
        );
    }
}

fn asyncness(kind: Kind, args: &Args, sig: &Signature, problems: &mut Problems) {
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

fn roles<'a>(kind: Kind, sig: &'a Signature, problems: &mut Problems) -> Vec<Role<'a>> {
    const CONTEXT_FIRST: &str =
        "the first parameter of an orchestrator is `ctx: OrchestrationContext`";
    let noun = kind.noun();
    let mut roles = Vec::new();
    let mut input_seen = false;
    let mut first = true;
    for parameter in &sig.inputs {
        let ty = match parameter {
            FnArg::Typed(typed) => &*typed.ty,
            FnArg::Receiver(receiver) => {
                problems.add(
                    receiver,
                    format!("{noun} is a free function: it has no `self`. Pass data as input"),
                );
                continue;
            }
        };
        let first = std::mem::take(&mut first);
        if let Some(sentence) = misplaced(kind, ty) {
            problems.add(ty, sentence);
            continue;
        }
        let role = role(kind, ty);
        match role {
            Role::Context if !first => {
                problems.add(ty, "the context is the first parameter");
            }
            Role::Input(_) if first && kind == Kind::Orchestrator => {
                problems.add(ty, CONTEXT_FIRST);
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
        problems.add(&sig.ident, CONTEXT_FIRST);
    }
    roles
}

/// What is wrong with a parameter that belongs to the other kind of function, or is borrowed.
fn misplaced(kind: Kind, ty: &Type) -> Option<String> {
    let context = kind.context_type();
    if let Type::Reference(reference) = ty {
        return is_named(&reference.elem, context)
            .then(|| format!("the context is taken by value: `ctx: {context}`. A clone is cheap"));
    }
    match kind {
        Kind::Orchestrator if is_named(ty, "ActivityContext") => Some(
            "`ActivityContext` is for activities; an orchestrator takes `ctx: OrchestrationContext`"
                .into(),
        ),
        Kind::Orchestrator if is_state(ty) => Some(
            "`State<T>` is for activities: what a worker provides may differ between two replays. Use \
             it in an activity"
                .into(),
        ),
        Kind::Activity if is_named(ty, "OrchestrationContext") => Some(
            "`OrchestrationContext` is for orchestrators; an activity takes `ctx: ActivityContext`, or \
             no context"
                .into(),
        ),
        Kind::Orchestrator | Kind::Activity => None,
    }
}

fn role(kind: Kind, ty: &Type) -> Role<'_> {
    if is_named(ty, kind.context_type()) {
        Role::Context
    } else if kind == Kind::Activity && is_state(ty) {
        Role::State(ty)
    } else {
        Role::Input(ty)
    }
}

/// Whether it is a path that ends in this name, without arguments.
fn is_named(ty: &Type, name: &str) -> bool {
    let Type::Path(path) = ty else { return false };
    let last = path.path.segments.last();
    last.is_some_and(|last| last.ident == name && matches!(last.arguments, PathArguments::None))
}

fn is_state(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.segments.last().is_some_and(|last| {
        last.ident == "State" && matches!(last.arguments, PathArguments::AngleBracketed(_))
    })
}

fn check_input(noun: &str, ty: &Type, problems: &mut Problems) {
    let found = Unstorable::in_type(ty);
    if let Some(borrowed) = found.borrowed {
        problems.add(
            borrowed,
            format!(
                "the input of {noun} is read from storage, so it must be owned: `String` instead of \
                 `&str`, `Vec<T>` instead of `&[T]`, `T` instead of `&T`"
            ),
        );
    }
    if let Some(opaque) = found.opaque {
        problems.add(
            opaque,
            format!(
                "the input of {noun} is read into one type: name it instead of `impl Trait` or \
                 `dyn Trait`"
            ),
        );
    }
}

fn returned<'a>(kind: Kind, sig: &'a Signature, problems: &mut Problems) -> Option<&'a Type> {
    let noun = kind.noun();
    let advice = format!("{noun} returns `Result<T, {}>`", kind.error_type());
    let ty = match &sig.output {
        ReturnType::Default => {
            let unit = format!("one without a value returns `Result<(), {}>`", kind.error_type());
            problems.add(&sig.ident, format!("{advice}; {unit}"));
            return None;
        }
        ReturnType::Type(_, ty) => &**ty,
    };
    if matches!(ty, Type::ImplTrait(_) | Type::Never(_)) {
        problems.add(ty, advice);
        return None;
    }
    let found = Unstorable::in_type(ty);
    if let Some(borrowed) = found.reference {
        problems.add(
            borrowed,
            format!(
                "what {noun} returns is stored and read again, so it must be owned: `String` instead \
                 of `&str`"
            ),
        );
    }
    if let Some(opaque) = found.implementation {
        problems.add(opaque, format!("{advice}: name the type instead of `impl Trait`"));
    }
    Some(ty)
}

/// The first of each that a type holds and storage cannot.
#[derive(Default)]
struct Unstorable<'a> {
    /// A reference, or another type with a lifetime.
    borrowed: Option<&'a dyn ToTokens>,
    reference: Option<&'a dyn ToTokens>,
    /// An `impl Trait` or `dyn Trait`.
    opaque: Option<&'a dyn ToTokens>,
    implementation: Option<&'a dyn ToTokens>,
}

impl<'a> Unstorable<'a> {
    fn in_type(ty: &'a Type) -> Self {
        let mut found = Self::default();
        found.visit_type(ty);
        found
    }
}

impl<'ast> Visit<'ast> for Unstorable<'ast> {
    fn visit_type(&mut self, ty: &'ast Type) {
        match ty {
            Type::Reference(_) => {
                self.reference.get_or_insert(ty);
                self.borrowed.get_or_insert(ty);
            }
            Type::ImplTrait(_) => {
                self.implementation.get_or_insert(ty);
                self.opaque.get_or_insert(ty);
            }
            Type::TraitObject(_) => {
                self.opaque.get_or_insert(ty);
            }
            _ => visit::visit_type(self, ty),
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        self.borrowed.get_or_insert(lifetime);
    }
}
