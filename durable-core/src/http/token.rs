//! Continuation tokens of lists.

use std::fmt::Write as _;

use durable_machine::model::Timestamp;
use durable_machine::store::{ListQuery, ListToken};
use sha2::{Digest, Sha256};

/// The text of a token, good for this list of this hub only.
pub(super) fn write(hub: &str, list: &ListQuery, token: ListToken) -> String {
    let ListToken(number) = token;
    format!("{number:016x}{}", check(hub, list, number))
}

/// The token of a text; `None` for whatever [`write`] did not make.
pub(super) fn read(hub: &str, list: &ListQuery, text: &str) -> Option<ListToken> {
    let number = u64::from_str_radix(text.get(..16)?, 16).ok()?;
    let token = ListToken(number);
    (write(hub, list, token) == text).then_some(token)
}

/// Finds what was altered or made up by mistake, or belongs to another list. A position in a list gives no right
/// to anything, so this is not a secret.
fn check(hub: &str, list: &ListQuery, number: u64) -> String {
    let digest = Sha256::digest(format!("list {hub} {number} {}", filters(list)));
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What of a query chooses instances, in one way for each choice: the prefix is last, it may hold anything.
fn filters(list: &ListQuery) -> String {
    let mut statuses: Vec<_> = list.statuses.iter().map(|status| status.name()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let micros =
        |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| time.as_micros().to_string());
    let (from, to) = (micros(list.created_from), micros(list.created_to));
    let prefix = list.id_prefix.as_deref().unwrap_or_default();
    format!("{} {from} {to} {prefix}", statuses.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_machine::model::RuntimeStatus::{self, Failed, Running};

    fn list() -> ListQuery {
        ListQuery { id_prefix: Some("a".into()), ..ListQuery::default() }
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for number in [0, 1, u64::MAX] {
            let text = write("hub", &list(), ListToken(number));
            assert_eq!(read("hub", &list(), &text), Some(ListToken(number)));
        }
        // The order of states, and naming one twice, make no other list.
        let of = |statuses: &[RuntimeStatus]| ListQuery { statuses: statuses.to_vec(), ..list() };
        let text = write("hub", &of(&[Running, Failed]), ListToken(7));
        assert_eq!(read("hub", &of(&[Failed, Running, Failed]), &text), Some(ListToken(7)));
    }

    #[test]
    fn anything_else_is_no_token() {
        let token = write("hub", &list(), ListToken(7));
        assert_eq!(read("other", &list(), &token), None);
        for text in ["", "7", "null", &token[1..], &token.to_uppercase(), &format!("{token}0"), "é"]
        {
            assert_eq!(read("hub", &list(), text), None, "{text}");
        }
        let forged = token.replacen('7', "8", 1);
        assert_eq!(read("hub", &list(), &forged), None);
        let time = Some(Timestamp::from_micros(5));
        for other in [
            ListQuery::default(),
            ListQuery { id_prefix: Some("A".into()), ..list() },
            ListQuery { id_prefix: Some("a ".into()), ..list() },
            ListQuery { statuses: vec![Running], ..list() },
            ListQuery { created_from: time, ..list() },
            ListQuery { created_to: time, ..list() },
        ] {
            assert_eq!(read("hub", &other, &token), None, "{other:?}");
        }
    }
}
