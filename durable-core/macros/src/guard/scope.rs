//! Which names stand for what, at one place of the body.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{Ident, Item, Pat, PatIdent, Path, Type, UseTree};

/// Names of the enclosing blocks, innermost last.
#[derive(Default)]
pub(super) struct Scopes(Vec<Scope>);

#[derive(Default)]
struct Scope {
    /// Variables and functions.
    values: BTreeMap<String, Value>,
    /// What can begin a path: imports, types, modules.
    paths: BTreeMap<String, Origin>,
    /// Modules of which everything is imported.
    globs: Vec<Vec<String>>,
}

/// A variable or function of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Plain,
    /// Holds a collection whose order is that of random hashes.
    Hashed,
}

enum Origin {
    /// Declared in the body.
    Own,
    Path(Vec<String>),
}

/// What a path stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// Something of the author's: never refused.
    Own,
    /// Something with this path, as far as the body says.
    Path(Vec<String>),
}

/// The segments of a path, without arguments and `r#`.
pub(super) fn segments(path: &Path) -> Vec<String> {
    path.segments.iter().map(|segment| plain(&segment.ident)).collect()
}

pub(super) fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

impl Scopes {
    pub(super) fn open(&mut self) {
        self.0.push(Scope::default());
    }

    pub(super) fn close(&mut self) {
        self.0.pop();
    }

    /// Adds the variables of a pattern.
    pub(super) fn bind(&mut self, pat: &Pat, value: Value) {
        struct Names<'a>(&'a mut BTreeMap<String, Value>, Value);
        impl<'ast> Visit<'ast> for Names<'_> {
            fn visit_pat_ident(&mut self, pat: &'ast PatIdent) {
                self.0.insert(plain(&pat.ident), self.1);
                visit::visit_pat_ident(self, pat);
            }
        }
        if let Some(scope) = self.0.last_mut() {
            Names(&mut scope.values, value).visit_pat(pat);
        }
    }

    /// Adds an item: it is known in all of its block.
    pub(super) fn declare(&mut self, item: &Item) {
        let Some(scope) = self.0.last_mut() else { return };
        let (name, origin) = match item {
            Item::Use(item) => return scope.import(&[], &item.tree),
            Item::Fn(item) => return scope.plain_value(&item.sig.ident),
            Item::Const(item) => return scope.plain_value(&item.ident),
            Item::Static(item) => return scope.plain_value(&item.ident),
            Item::ExternCrate(item) => {
                let alias = item.rename.as_ref().map_or(&item.ident, |(_, alias)| alias);
                (alias, Origin::Path(vec![plain(&item.ident)]))
            }
            Item::Type(item) => match &*item.ty {
                Type::Path(ty) if ty.qself.is_none() => {
                    (&item.ident, Origin::Path(segments(&ty.path)))
                }
                _ => (&item.ident, Origin::Own),
            },
            Item::Struct(item) => (&item.ident, Origin::Own),
            Item::Enum(item) => (&item.ident, Origin::Own),
            Item::Union(item) => (&item.ident, Origin::Own),
            Item::Trait(item) => (&item.ident, Origin::Own),
            Item::Mod(item) => (&item.ident, Origin::Own),
            Item::Macro(item) => match &item.ident {
                Some(ident) => (ident, Origin::Own),
                None => return,
            },
            _ => return,
        };
        scope.paths.insert(plain(name), origin);
    }

    /// What a variable holds; `None` where no variable of the body has that name.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        self.0.iter().rev().find_map(|scope| scope.values.get(name).copied())
    }

    /// Follows imports. A path that begins with `::` names a crate at once.
    pub(super) fn resolve(&self, path: Vec<String>, from_root: bool) -> Resolved {
        if from_root {
            return Resolved::Path(path);
        }
        if let [name] = &path[..]
            && self.value(name).is_some()
        {
            return Resolved::Own;
        }
        let mut path = path;
        // An alias of an alias; imports cannot go round in circles for ever.
        for _ in 0..8 {
            let Some(first) = path.first() else { break };
            if matches!(first.as_str(), "self" | "super" | "crate" | "Self") {
                return Resolved::Own;
            }
            match self.0.iter().rev().find_map(|scope| scope.paths.get(first)) {
                None => break,
                Some(Origin::Own) => return Resolved::Own,
                Some(Origin::Path(origin)) => {
                    let same = origin.first() == Some(first);
                    path = origin.iter().chain(&path[1..]).cloned().collect();
                    // `use time::sleep as time` would begin anew with its own name.
                    if same {
                        break;
                    }
                }
            }
        }
        Resolved::Path(path)
    }

    /// What a path may stand for by `use module::*`.
    pub(super) fn by_glob(&self, path: &[String]) -> impl Iterator<Item = Vec<String>> {
        let globs = self.0.iter().rev().flat_map(|scope| &scope.globs);
        globs.map(move |glob| glob.iter().chain(path).cloned().collect())
    }
}

impl Scope {
    fn plain_value(&mut self, name: &Ident) {
        self.values.insert(plain(name), Value::Plain);
    }

    fn import(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.import(&with(plain(&path.ident)), &path.tree),
            // `use std::time::{self}`
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = prefix.last() {
                    self.paths.insert(last.clone(), Origin::Path(prefix.to_vec()));
                }
            }
            UseTree::Name(name) => {
                let name = plain(&name.ident);
                self.paths.insert(name.clone(), Origin::Path(with(name)));
            }
            UseTree::Rename(rename) => {
                let origin = if rename.ident == "self" {
                    prefix.to_vec()
                } else {
                    with(plain(&rename.ident))
                };
                self.paths.insert(plain(&rename.rename), Origin::Path(origin));
            }
            UseTree::Glob(_) => self.globs.push(prefix.to_vec()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(prefix, tree);
                }
            }
        }
    }
}
