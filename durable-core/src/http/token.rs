//! Continuation tokens of lists.

use std::fmt::Write as _;

use durable_machine::store::ListToken;
use sha2::{Digest, Sha256};

/// The text of a token, good for lists of this hub only.
pub(super) fn write(hub: &str, token: ListToken) -> String {
    let ListToken(number) = token;
    format!("{number:016x}{}", check(hub, number))
}

/// The token of a text; `None` for whatever [`write`] did not make.
pub(super) fn read(hub: &str, text: &str) -> Option<ListToken> {
    let number = u64::from_str_radix(text.get(..16)?, 16).ok()?;
    let token = ListToken(number);
    (write(hub, token) == text).then_some(token)
}

/// Finds what was altered or made up by mistake. A position in a list gives no right to anything, so this
/// is not a secret.
fn check(hub: &str, number: u64) -> String {
    let digest = Sha256::digest(format!("list {hub} {number}"));
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for number in [0, 1, u64::MAX] {
            assert_eq!(read("hub", &write("hub", ListToken(number))), Some(ListToken(number)));
        }
    }

    #[test]
    fn anything_else_is_no_token() {
        let token = write("hub", ListToken(7));
        assert_eq!(read("other", &token), None);
        for text in ["", "7", "null", &token[1..], &token.to_uppercase(), &format!("{token}0"), "é"]
        {
            assert_eq!(read("hub", text), None, "{text}");
        }
        let forged = token.replacen('7', "8", 1);
        assert_eq!(read("hub", &forged), None);
    }
}
