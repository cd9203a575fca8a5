//! Where the order of a hash collection gets into what an orchestrator does.
//!
//! Looking something up in one is harmless, so only going through it is refused; and not that either
//! where what comes out has an order of its own.

use syn::{Expr, ExprMethodCall, GenericArgument, Local, Pat, PathArguments, Stmt, Type, TypePath};

use super::scope::{Resolved, Scopes, Value, segments};

/// Collections that mix a random number into their hashes, and how many type arguments they have without a
/// hasher of the author's choice.
const HASHED: [(&str, usize); 6] = [
    ("HashMap", 2),
    ("HashSet", 1),
    ("AHashMap", 2),
    ("AHashSet", 1),
    ("DashMap", 2),
    ("DashSet", 1),
];

/// Methods that go through a collection.
const GOING_THROUGH: [&str; 15] = [
    "iter",
    "iter_mut",
    "into_iter",
    "keys",
    "into_keys",
    "values",
    "values_mut",
    "into_values",
    "drain",
    "retain",
    "extract_if",
    "union",
    "intersection",
    "difference",
    "symmetric_difference",
];

/// Methods of an iterator whose result does not depend on its order.
const WITHOUT_ORDER: [&str; 10] = [
    "all",
    "any",
    "count",
    "max",
    "min",
    "sorted",
    "sorted_by",
    "sorted_by_key",
    "sorted_unstable",
    "sorted_unstable_by",
];

/// Collections with an order of their own, or that are not gone through in any.
const ORDERED: [&str; 3] = ["BTreeMap", "BTreeSet", "BinaryHeap"];

impl Scopes {
    /// What a variable of this type holds.
    pub(super) fn value_of_type(&self, ty: &Type) -> Value {
        match ty {
            Type::Reference(reference) => self.value_of_type(&reference.elem),
            Type::Paren(paren) => self.value_of_type(&paren.elem),
            Type::Path(path) if self.is_hashed_path(path) => Value::Hashed,
            _ => Value::Plain,
        }
    }

    /// What a variable with this initial value holds.
    pub(super) fn value_of(&self, expr: &Expr) -> Value {
        let hashed = match expr {
            Expr::Paren(inner) => return self.value_of(&inner.expr),
            Expr::Reference(inner) => return self.value_of(&inner.expr),
            Expr::Path(path) => path
                .path
                .get_ident()
                .is_some_and(|name| self.value(&name.to_string()) == Some(Value::Hashed)),
            // `HashMap::new()` and the like.
            Expr::Call(call) => match &*call.func {
                Expr::Path(path) => {
                    let mut owner = path.path.clone();
                    owner.segments.pop();
                    // What is left ends in `::`, which only tokens would show.
                    self.is_hashed(&segments(&owner), &owner)
                }
                _ => false,
            },
            Expr::MethodCall(call) if call.method == "clone" => {
                return self.value_of(&call.receiver);
            }
            Expr::MethodCall(call) => {
                collected_into(call).is_some_and(|ty| self.value_of_type(ty) == Value::Hashed)
            }
            _ => false,
        };
        if hashed { Value::Hashed } else { Value::Plain }
    }

    /// Whether this call goes through a hash collection.
    pub(super) fn goes_through_hashes(&self, call: &ExprMethodCall) -> bool {
        GOING_THROUGH.iter().any(|name| call.method == name)
            && self.value_of(&call.receiver) == Value::Hashed
    }

    /// Whether the result of this call does not depend on the order of its receiver.
    pub(super) fn forgets_order(&self, call: &ExprMethodCall) -> bool {
        WITHOUT_ORDER.iter().any(|name| call.method == name)
            || collected_into(call).is_some_and(|ty| self.has_own_order(ty))
    }

    /// Whether a `let` keeps nothing of the order of its value: it is collected into a type with an order
    /// of its own, or sorted by the next statement.
    pub(super) fn order_is_forgotten(&self, local: &Local, next: Option<&Stmt>) -> bool {
        let (name, ty) = match &local.pat {
            Pat::Ident(pat) => (Some(&pat.ident), None),
            Pat::Type(typed) => match &*typed.pat {
                Pat::Ident(pat) => (Some(&pat.ident), Some(&*typed.ty)),
                _ => (None, Some(&*typed.ty)),
            },
            _ => (None, None),
        };
        if ty.is_some_and(|ty| self.has_own_order(ty)) {
            return true;
        }
        let Some(Stmt::Expr(Expr::MethodCall(call), _)) = next else { return false };
        let Expr::Path(receiver) = &*call.receiver else { return false };
        call.method.to_string().starts_with("sort") && receiver.path.get_ident() == name
    }

    /// A hash collection counts: going through it is seen where that is done.
    fn has_own_order(&self, ty: &Type) -> bool {
        let Type::Path(path) = ty else { return false };
        let last = path.path.segments.last();
        last.is_some_and(|last| ORDERED.iter().any(|name| last.ident == name))
            || self.is_hashed_path(path)
    }

    fn is_hashed_path(&self, ty: &TypePath) -> bool {
        ty.qself.is_none() && self.is_hashed(&segments(&ty.path), &ty.path)
    }

    fn is_hashed(&self, names: &[String], path: &syn::Path) -> bool {
        if names.is_empty() {
            return false;
        }
        let Resolved::Path(resolved) = self.resolve(names.to_vec(), path.leading_colon.is_some())
        else {
            return false;
        };
        let arguments = path.segments.last().map_or(0, |last| match &last.arguments {
            PathArguments::AngleBracketed(arguments) => arguments
                .args
                .iter()
                .filter(|argument| matches!(argument, GenericArgument::Type(_)))
                .count(),
            PathArguments::None | PathArguments::Parenthesized(_) => 0,
        });
        HASHED.iter().any(|(name, usual)| {
            resolved.last().is_some_and(|last| last == name) && arguments <= *usual
        })
    }
}

/// The type of `.collect::<Type>()`.
fn collected_into(call: &ExprMethodCall) -> Option<&Type> {
    if call.method != "collect" {
        return None;
    }
    match call.turbofish.as_ref()?.args.first()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}
