//! From the author's function to the generated items.

use proc_macro2::TokenStream;
use syn::ItemFn;

use crate::args::Args;
use crate::generate::generate;
use crate::guard;
use crate::problems::Problems;
use crate::signature::Shape;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Orchestrator,
    Activity,
}

impl Kind {
    /// With its article.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Orchestrator => "an orchestrator",
            Self::Activity => "an activity",
        }
    }

    pub(crate) fn error_type(self) -> &'static str {
        match self {
            Self::Orchestrator => "OrchestrationError",
            Self::Activity => "ActivityError",
        }
    }

    pub(crate) fn context_type(self) -> &'static str {
        match self {
            Self::Orchestrator => "OrchestrationContext",
            Self::Activity => "ActivityContext",
        }
    }
}

/// The generated items, and an error for everything that is wrong.
///
/// Where only the body is refused the items are there all the same: an error less at each place that
/// names the function.
pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let mut problems = Problems::default();
    let code = check(kind, args, item, &mut problems);
    let mut tokens = problems.into_compile_errors();
    tokens.extend(code);
    tokens
}

fn check(
    kind: Kind,
    args: TokenStream,
    item: TokenStream,
    problems: &mut Problems,
) -> Option<TokenStream> {
    let args = Args::parse(kind, args, problems);
    let function: ItemFn = match syn::parse2(item) {
        Ok(function) => function,
        Err(error) => {
            let sentence = format!("{} is a function: {error}", kind.noun());
            problems.push(syn::Error::new(error.span(), sentence));
            return None;
        }
    };
    let shape = Shape::of(kind, &args, &function.sig, problems);
    let understood = !problems.any();
    if kind == Kind::Orchestrator {
        guard::check(&function, &args.allowed, problems);
    }
    shape.filter(|_| understood).map(|shape| generate(kind, &args, &function, &shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, args: &str, item: &str, expected: &[&str]) {
        let mut problems = Problems::default();
        let args = args.parse().expect("tokens");
        let code = super::check(kind, args, item.parse().expect("tokens"), &mut problems);
        if let Some(code) = code {
            syn::parse2::<syn::File>(code).expect("the generated code is Rust");
        } else {
            assert!(problems.any(), "{item}: nothing was generated, and nobody is told");
        }
        let sentences = problems.sentences();
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
        check("", "async fn f(c: &OrchestrationContext) -> R { }", &["by value"]);
        check("", "async fn f(c: ActivityContext) -> R { }", &["is for activities"]);
        check(
            "",
            "async fn f(c: OrchestrationContext, s: State<A>, a: u8) -> R { }",
            &["`State<T>` is for activities"],
        );
        check("", "async fn f(c: OrchestrationContext, a: u8, b: u8) -> R { }", &["one input"]);
        check("", "async fn f(c: OrchestrationContext)", &["an orchestrator is a function"]);
        check("", "async fn f(c: OrchestrationContext) { }", &["returns `Result<T, Orch"]);
        check("blocking", "async fn f(c: OrchestrationContext) -> R { }", &["cannot be blocking"]);
        check(
            "colour = 3, name = \"\", shape(round), name = \"F\"",
            "async fn f(c: OrchestrationContext) -> R { }",
            &["unknown argument", "name is empty", "unknown argument", "given twice"],
        );
        check(
            "",
            "const unsafe extern \"C\" fn f<T>(&self) -> ! where T: Copy { Instant::now() }",
            &[
                "const",
                "unsafe",
                "extern",
                "generic",
                "is an `async fn`",
                "no `self`",
                "returns `Result<T, Orch",
                "`Instant::now`",
            ],
        );
    }

    #[test]
    fn activities_are_taken_or_refused_with_a_sentence() {
        let check = |args, item, expected: &[&str]| check(Kind::Activity, args, item, expected);
        check("", "async fn f() -> R { Instant::now() }", &[]);
        check("blocking", "fn f(c: ActivityContext, State(a): State<A>, i: I) -> R { }", &[]);
        check("", "async fn f(State(a): State<A>, i: I, s: a::State<Vec<B>>) -> R { }", &[]);
        // A type of the author's that happens to be called State is an input.
        check("", "async fn f(state: State) -> R { }", &[]);
        check("", "fn f() -> R { }", &["`#[activity(blocking)]`"]);
        check("blocking", "async fn f() -> R { }", &["is not `async`"]);
        check("", "async fn f(a: u8, c: ActivityContext) -> R { }", &["is the first parameter"]);
        check("", "async fn f(c: OrchestrationContext) -> R { }", &["is for orchestrators"]);
        check("", "async fn f(a: u8, b: u8) -> R { }", &["`State<T>`"]);
        check("", "async fn f(a: &str) -> R { }", &["must be owned"]);
        check("", "async fn f(a: Option<Cow<'_, str>>) -> R { }", &["must be owned"]);
        check("", "async fn f<'a>(a: Vec<&'a str>) -> R { }", &["lifetime", "must be owned"]);
        check("", "async fn f(a: impl Into<u8>) -> R { }", &["instead of `impl Trait`"]);
        check("", "async fn f(a: Box<dyn Any>) -> R { }", &["or `dyn Trait`"]);
        check("", "async fn f() -> impl Copy { }", &["returns `Result<T, ActivityError>`"]);
        check("", "async fn f() -> Result<impl Copy, E> { }", &["name the type"]);
        check("", "async fn f() -> Result<&'static str, E> { }", &["returns is stored"]);
        check("allow(clock, reason = \"x\")", "async fn f() -> R { }", &["may do anything"]);
        check("", "struct F;", &["an activity is a function"]);
    }
}
