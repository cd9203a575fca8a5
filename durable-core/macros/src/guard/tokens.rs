//! Arguments of macros: expressions where they are, tokens where the macro has a language of its own.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::visit::Visit;
use syn::{Block, Expr, Stmt, Token};

use super::body::Body;
use super::scope::plain;

/// A path among tokens.
struct Found {
    names: Vec<String>,
    from_root: bool,
    tokens: TokenStream,
}

impl Body<'_, '_> {
    /// Looks at what a macro is given.
    pub(super) fn arguments(&mut self, tokens: &TokenStream) {
        let list = Punctuated::<Expr, Token![,]>::parse_terminated;
        if let Ok(arguments) = list.parse2(tokens.clone()) {
            arguments.iter().for_each(|argument| self.visit_expr(argument));
        } else if let Ok(stmts) = Block::parse_within.parse2(tokens.clone()) {
            self.statements(stmts);
        } else {
            self.tokens(tokens.clone());
        }
    }

    fn statements(&mut self, stmts: Vec<Stmt>) {
        self.visit_block(&Block { brace_token: syn::token::Brace::default(), stmts });
    }

    /// Looks for paths and calls where nothing else is known: in `select!` or `json!`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut rest = tokens.into_iter().collect::<Vec<_>>();
        rest.reverse();
        let mut after_dot = false;
        while let Some(token) = rest.last() {
            match token {
                TokenTree::Ident(_) if !after_dot => {
                    let found = path(&mut rest, false);
                    self.found(&found, &mut rest);
                }
                TokenTree::Punct(_) if is_path_separator(&rest) => {
                    rest.truncate(rest.len() - 2);
                    if matches!(rest.last(), Some(TokenTree::Ident(_))) {
                        let found = path(&mut rest, true);
                        self.found(&found, &mut rest);
                    }
                }
                TokenTree::Group(group) => {
                    let inner = group.stream();
                    rest.pop();
                    self.tokens(inner);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    after_dot = matches!(token, TokenTree::Punct(dot) if dot.as_char() == '.');
                    rest.pop();
                    continue;
                }
            }
            after_dot = false;
        }
    }

    fn found(&mut self, found: &Found, rest: &mut Vec<TokenTree>) {
        if let [.., TokenTree::Group(arguments), TokenTree::Punct(bang)] = &rest[..]
            && bang.as_char() == '!'
        {
            let arguments = arguments.stream();
            rest.truncate(rest.len() - 2);
            self.macro_named(&found.names, found.from_root, &found.tokens, &arguments);
            return;
        }
        if found.names.len() > 1 || found.from_root {
            self.path(&found.names, found.from_root, &found.tokens);
        } else if let Some(TokenTree::Group(group)) = rest.last()
            && group.delimiter() == Delimiter::Parenthesis
        {
            self.path(&found.names, false, &found.tokens);
            let list = Punctuated::<Expr, Token![,]>::parse_terminated;
            if let Ok(arguments) = list.parse2(group.stream()) {
                let arguments: Vec<_> = arguments.iter().collect();
                self.bare_call(&found.names[0], &arguments, &found.tokens);
            }
        }
    }
}

/// Takes a path off the reversed tokens, whose last one is an identifier.
fn path(rest: &mut Vec<TokenTree>, from_root: bool) -> Found {
    let mut found = Found { names: Vec::new(), from_root, tokens: TokenStream::new() };
    while let Some(TokenTree::Ident(ident)) = rest.last() {
        found.names.push(plain(ident));
        found.tokens.extend(rest.pop());
        if !is_path_separator(rest) {
            break;
        }
        let after = rest.len() - 3;
        if !matches!(rest.get(after), Some(TokenTree::Ident(_))) {
            break;
        }
        found.tokens.extend(rest.pop());
        found.tokens.extend(rest.pop());
    }
    found
}

fn is_path_separator(rest: &[TokenTree]) -> bool {
    let colon = |token: &TokenTree| matches!(token, TokenTree::Punct(one) if one.as_char() == ':');
    matches!(rest, [.., second, first] if colon(first) && colon(second)) && rest.len() >= 3
}
