//! Goes through a body in the order in which it is written, and knows which names stand for what.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    Arm, Block, Expr, ExprCall, ExprClosure, ExprForLoop, ExprIf, ExprLet, ExprMethodCall,
    ExprPath, ExprWhile, FnArg, ItemFn, ItemMacro, ItemMod, ItemStatic, Local, Macro, Pat,
    Signature, StaticMutability, Stmt, Type,
};

use super::Refusals;
use super::rules::{Key, Rule};
use super::scope::{Resolved, Scopes, Value, plain, segments};

pub(super) struct Body<'a, 'b> {
    pub(super) refusals: &'a mut Refusals<'b>,
    pub(super) scopes: Scopes,
    /// What is done with the value that is looked at does not depend on its order.
    order_forgotten: bool,
}

/// Types with which a static carries something from one run of the code to another.
const CHANGING: [&str; 5] = ["Mutex", "RwLock", "Cell", "RefCell", "UnsafeCell"];

const HASH_ORDER: &str = "goes through a hash collection, whose order is another one in each replay: use \
                          a `BTreeMap` or `BTreeSet`, or sort what is collected from it at once";

const GLOBAL: &str = "keeps something between runs of the code, which a replay finds changed: keep it in \
                      a variable of the orchestrator";

impl<'a, 'b> Body<'a, 'b> {
    pub(super) fn new(refusals: &'a mut Refusals<'b>) -> Self {
        Self { refusals, scopes: Scopes::default(), order_forgotten: false }
    }

    pub(super) fn function(&mut self, sig: &Signature, block: &Block) {
        self.scopes.open();
        for parameter in &sig.inputs {
            if let FnArg::Typed(typed) = parameter {
                let value = self.scopes.value_of_type(&typed.ty);
                self.bind(&typed.pat, value);
            }
        }
        self.visit_block(block);
        self.scopes.close();
    }

    /// Looks at a path in an expression, however it was found.
    pub(super) fn path(&mut self, path: &[String], from_root: bool, at: &dyn ToTokens) {
        let Resolved::Path(resolved) = self.scopes.resolve(path.to_vec(), from_root) else {
            return;
        };
        let rule = Rule::for_path(&resolved).or_else(|| {
            let by_glob = self.scopes.by_glob(&resolved).find_map(|path| Rule::for_glob(&path));
            by_glob.filter(|_| !from_root)
        });
        if let Some(rule) = rule {
            self.refuse(rule, &shown(path, &resolved), at, "");
        }
    }

    /// Looks at a call of a function by its name alone: it may be one that is imported outside of the
    /// body.
    pub(super) fn bare_call(&mut self, name: &str, arguments: &[&Expr], at: &dyn ToTokens) {
        let unresolved = Resolved::Path(vec![name.to_owned()]);
        let with_context = arguments.iter().any(|argument| self.is_context(argument));
        if with_context || self.scopes.resolve(vec![name.to_owned()], false) != unresolved {
            return;
        }
        if let Some(rule) = Rule::for_bare(name, arguments.len()) {
            let hint = format!("\nif it is a function of your own: write `self::{name}(…)`");
            self.refuse(rule, &format!("`{name}`"), at, &hint);
        }
    }

    fn refuse(&mut self, rule: &Rule, shown: &str, at: &dyn ToTokens, hint: &str) {
        let sentence = format!("{shown} {}: {}{hint}", rule.why, rule.instead);
        self.refusals.add(rule.key, at, &sentence);
    }

    fn is_context(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Path(path) => path.path.is_ident(&self.refusals.context),
            Expr::Reference(inner) => self.is_context(&inner.expr),
            Expr::MethodCall(call) => call.method == "clone" && self.is_context(&call.receiver),
            _ => false,
        }
    }

    fn bind(&mut self, pat: &Pat, value: Value) {
        let value = match pat {
            Pat::Ident(_) => value,
            Pat::Type(typed) => {
                let value = self.scopes.value_of_type(&typed.ty);
                return self.bind(&typed.pat, value);
            }
            _ => Value::Plain,
        };
        self.scopes.bind(pat, value);
    }

    fn block_in_scope(&mut self, block: &Block) {
        for (position, stmt) in block.stmts.iter().enumerate() {
            match stmt {
                Stmt::Local(local) => {
                    self.order_forgotten =
                        self.scopes.order_is_forgotten(local, block.stmts.get(position + 1));
                    self.visit_local(local);
                }
                Stmt::Item(_) | Stmt::Expr(..) | Stmt::Macro(_) => self.visit_stmt(stmt),
            }
            self.order_forgotten = false;
        }
    }

    fn macro_call(&mut self, call: &Macro) {
        let path = segments(&call.path);
        let from_root = call.path.leading_colon.is_some();
        self.macro_named(&path, from_root, &call.path, &call.tokens);
    }

    /// Looks at the call of a macro, and at its arguments.
    pub(super) fn macro_named(
        &mut self,
        path: &[String],
        from_root: bool,
        at: &dyn ToTokens,
        tokens: &TokenStream,
    ) {
        if let Resolved::Path(resolved) = self.scopes.resolve(path.to_vec(), from_root) {
            let written = path.join("::");
            match resolved.last().map(String::as_str) {
                Some("println" | "print" | "eprintln" | "eprint" | "dbg") => self.refusals.add(
                    Key::Print,
                    at,
                    &format!(
                        "`{written}!` prints again in each replay: use `tracing::info!`, which is \
                         silent there"
                    ),
                ),
                Some("select") if !is_biased(&resolved, tokens) => self.refusals.add(
                    Key::Select,
                    at,
                    &format!(
                        "`{written}!` picks one of several ready branches at random: use `ctx.race` or \
                         `ctx.race_all`, `futures::select_biased!`, or `biased;` where the macro takes it"
                    ),
                ),
                Some("thread_local") => {
                    self.refusals.add(Key::Global, at, &format!("`{written}!` {GLOBAL}"));
                }
                Some("stringify") => return,
                _ => {}
            }
        }
        self.arguments(tokens);
    }
}

/// Whether the branches are polled in the order in which they are written.
fn is_biased(path: &[String], tokens: &TokenStream) -> bool {
    let of_futures = path.first().is_some_and(|first| first.starts_with("futures"));
    let first = tokens.clone().into_iter().next().map(|token| token.to_string());
    !of_futures && first.as_deref() == Some("biased")
}

/// As it is written, and what it stands for where that differs.
fn shown(path: &[String], resolved: &[String]) -> String {
    let (written, meant) = (path.join("::"), resolved.join("::"));
    if meant.ends_with(&written) {
        format!("`{written}`")
    } else {
        format!("`{written}` (`{meant}`)")
    }
}

/// What macros make of functions; they look after themselves.
fn is_marked(function: &ItemFn) -> bool {
    function.attrs.iter().any(|attribute| {
        let last = attribute.path().segments.last();
        last.is_some_and(|last| last.ident == "activity" || last.ident == "orchestrator")
    })
}

impl<'ast> Visit<'ast> for Body<'_, '_> {
    fn visit_block(&mut self, block: &'ast Block) {
        self.scopes.open();
        for stmt in &block.stmts {
            if let Stmt::Item(item) = stmt {
                self.scopes.declare(item);
            }
        }
        self.block_in_scope(block);
        self.scopes.close();
    }

    fn visit_local(&mut self, local: &'ast Local) {
        let value = local.init.as_ref().map(|init| {
            self.visit_expr(&init.expr);
            self.order_forgotten = false;
            if let Some((_, diverge)) = &init.diverge {
                self.visit_expr(diverge);
            }
            self.scopes.value_of(&init.expr)
        });
        self.bind(&local.pat, value.unwrap_or(Value::Plain));
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        if !matches!(expr, Expr::MethodCall(_) | Expr::Paren(_)) {
            self.order_forgotten = false;
        }
        visit::visit_expr(self, expr);
    }

    fn visit_expr_path(&mut self, expr: &'ast ExprPath) {
        let names = segments(&expr.path);
        match &expr.qself {
            // `<Instant>::now`, `<Instant as Clock>::now`
            Some(qself) => {
                if let Type::Path(ty) = &*qself.ty {
                    let rest = names.get(qself.position..).unwrap_or_default();
                    let whole: Vec<_> = segments(&ty.path).iter().chain(rest).cloned().collect();
                    self.path(&whole, ty.path.leading_colon.is_some(), expr);
                }
            }
            None => self.path(&names, expr.path.leading_colon.is_some(), &expr.path),
        }
        visit::visit_expr_path(self, expr);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let Expr::Path(path) = &*call.func else { return visit::visit_expr_call(self, call) };
        // What takes the context knows what it is for: no function of another crate does.
        if call.args.iter().any(|argument| self.is_context(argument)) {
            call.args.iter().for_each(|argument| self.visit_expr(argument));
            return;
        }
        if path.qself.is_none()
            && path.path.leading_colon.is_none()
            && let [name] = &segments(&path.path)[..]
        {
            let arguments: Vec<_> = call.args.iter().collect();
            self.bare_call(name, &arguments, &path.path);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let forgotten = std::mem::take(&mut self.order_forgotten);
        let method = plain(&call.method);
        if !forgotten && self.scopes.goes_through_hashes(call) {
            self.refusals.add(Key::HashOrder, &call.method, &format!("`.{method}()` {HASH_ORDER}"));
        }
        if let Expr::Path(receiver) = &*call.receiver
            && let Some(owner) = receiver.path.segments.last().map(|last| plain(&last.ident))
        {
            if method == "elapsed" && owner == "UNIX_EPOCH" {
                self.refusals.add(
                    Key::Clock,
                    &call.method,
                    "`.elapsed()` reads a clock, which shows another time in each replay: use \
                     `ctx.now()`",
                );
            }
            let constant = owner.chars().all(|char| char.is_ascii_uppercase() || char == '_');
            if constant && method.starts_with("fetch_") {
                let sentence = format!("`{owner}` {GLOBAL}");
                self.refusals.add(Key::Global, &receiver.path, &sentence);
            }
        }
        let in_parallel = matches!(method.as_str(), "par_iter" | "into_par_iter" | "par_bridge");
        let rule = match (method.as_str(), call.args.len()) {
            ("block_on", 1) => Rule::for_bare("block_on", 1),
            (_, 0) if in_parallel => Rule::for_bare("spawn", 1),
            _ => None,
        };
        if let Some(rule) = rule {
            self.refuse(rule, &format!("`.{method}()`"), &call.method, "");
        }
        self.order_forgotten = forgotten || self.scopes.forgets_order(call);
        self.visit_expr(&call.receiver);
        self.order_forgotten = false;
        for argument in &call.args {
            self.visit_expr(argument);
        }
    }

    fn visit_expr_for_loop(&mut self, repeated: &'ast ExprForLoop) {
        if self.scopes.value_of(&repeated.expr) == Value::Hashed {
            self.refusals.add(Key::HashOrder, &repeated.expr, &format!("`for` {HASH_ORDER}"));
        }
        self.visit_expr(&repeated.expr);
        self.scopes.open();
        self.bind(&repeated.pat, Value::Plain);
        self.visit_block(&repeated.body);
        self.scopes.close();
    }

    fn visit_expr_closure(&mut self, closure: &'ast ExprClosure) {
        self.scopes.open();
        for input in &closure.inputs {
            self.bind(input, Value::Plain);
        }
        self.visit_expr(&closure.body);
        self.scopes.close();
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        self.scopes.open();
        self.bind(&arm.pat, Value::Plain);
        visit::visit_arm(self, arm);
        self.scopes.close();
    }

    fn visit_expr_if(&mut self, choice: &'ast ExprIf) {
        self.scopes.open();
        self.visit_expr(&choice.cond);
        self.visit_block(&choice.then_branch);
        self.scopes.close();
        if let Some((_, otherwise)) = &choice.else_branch {
            self.visit_expr(otherwise);
        }
    }

    fn visit_expr_while(&mut self, repeated: &'ast ExprWhile) {
        self.scopes.open();
        self.visit_expr(&repeated.cond);
        self.visit_block(&repeated.body);
        self.scopes.close();
    }

    fn visit_expr_let(&mut self, expr: &'ast ExprLet) {
        self.visit_expr(&expr.expr);
        self.bind(&expr.pat, Value::Plain);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.macro_call(call);
    }

    /// The rules of a macro are code only where it is called.
    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if item.ident.is_none() {
            self.macro_call(&item.mac);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_marked(function) {
            self.function(&function.sig, &function.block);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.scopes.open();
        for item in module.content.iter().flat_map(|(_, items)| items) {
            self.scopes.declare(item);
        }
        visit::visit_item_mod(self, module);
        self.scopes.close();
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        if matches!(item.mutability, StaticMutability::Mut(_)) || changes(&item.ty) {
            let sentence = format!("`static {}` {GLOBAL}", item.ident);
            self.refusals.add(Key::Global, &item.ident, &sentence);
        }
        visit::visit_item_static(self, item);
    }
}

/// Whether a static of this type can change.
fn changes(ty: &Type) -> bool {
    struct Changing(bool);
    impl<'ast> Visit<'ast> for Changing {
        fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
            let name = plain(&segment.ident);
            self.0 |= CHANGING.contains(&name.as_str()) || name.starts_with("Atomic");
            visit::visit_path_segment(self, segment);
        }
    }
    let mut changing = Changing(false);
    changing.visit_type(ty);
    changing.0
}
