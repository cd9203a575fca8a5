//! Signed links: what one instance may be asked for, and until when, in a text that anybody can hold and only
//! this hub can make.

use std::fmt;
use std::ops::BitOr;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The version of the format.
const VERSION: &str = "1";

/// What somebody who holds a signed link may do with its instance.
///
/// ```
/// use durable_core::http::LinkRights;
///
/// let rights = LinkRights::READ | LinkRights::RAISE;
/// assert!(rights.contains(LinkRights::READ) && !rights.contains(LinkRights::MANAGE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkRights(u8);

/// Each right that a token can have, and its letter.
const LETTERS: [(LinkRights, char); 4] =
    [(READ_ALONE, 'r'), (INSPECT_ALONE, 'i'), (LinkRights::RAISE, 'e'), (LinkRights::MANAGE, 'm')];
const READ_ALONE: LinkRights = LinkRights(1);
const INSPECT_ALONE: LinkRights = LinkRights(1 << 1);

impl LinkRights {
    /// To see its name, state, custom status, output and times.
    pub const READ: Self = READ_ALONE;
    /// To see its input and history as well.
    pub const INSPECT: Self = Self(READ_ALONE.0 | INSPECT_ALONE.0);
    /// To raise events.
    pub const RAISE: Self = Self(1 << 2);
    /// To terminate, suspend, resume, rewind and purge it, and to run it again in its place.
    pub const MANAGE: Self = Self(1 << 3);

    /// Whether these are among them.
    #[must_use]
    pub fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    fn letters(self) -> String {
        LETTERS
            .iter()
            .filter(|(right, _)| self.contains(*right))
            .map(|(_, letter)| letter)
            .collect()
    }

    /// `None` for whatever [`letters`](Self::letters) does not write.
    fn of_letters(text: &str) -> Option<Self> {
        let named = |letter| LETTERS.iter().find(|(_, known)| *known == letter);
        let rights = text.chars().try_fold(Self(0), |all, letter| Some(all | named(letter)?.0))?;
        let whole = !rights.contains(INSPECT_ALONE) || rights.contains(READ_ALONE);
        (whole && !text.is_empty() && rights.letters() == text).then_some(rights)
    }
}

impl BitOr for LinkRights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for LinkRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkRights({})", self.letters())
    }
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) rights: LinkRights,
    /// Seconds since 1970. From then on it opens nothing.
    pub(super) expires: u64,
}

impl Grant {
    fn claims(self) -> String {
        format!("{VERSION}.{}.{}", self.rights.letters(), self.expires)
    }

    /// `None` for whatever [`claims`](Self::claims) does not write.
    fn of_claims(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (version, rights, expires) = (parts.next()?, parts.next()?, parts.next()?);
        let grant =
            Self { rights: LinkRights::of_letters(rights)?, expires: expires.parse().ok()? };
        (version == VERSION && grant.claims() == text).then_some(grant)
    }
}

/// What signs tokens. It is never printed.
#[derive(Clone)]
pub(super) struct Secret(Hmac<Sha256>);

impl Secret {
    /// `None` never comes: every length will do for this signature.
    pub(super) fn new(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    /// A token for an instance of this hub.
    pub(super) fn sign(&self, grant: Grant, hub: &str, id: &str) -> String {
        let signature = self.signed(grant, hub, id).finalize().into_bytes();
        let claims = grant.claims();
        signature.iter().fold(claims + ".", |token, byte| format!("{token}{byte:02x}"))
    }

    /// Rights, numbers and names of hubs are without blanks, and the id is last: no two grants are one text.
    fn signed(&self, grant: Grant, hub: &str, id: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(format!("durable link {} {hub} {id}", grant.claims()).as_bytes());
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a token for this instance says, if one of these secrets has signed it and its time is not over. Every
/// secret is tried, in a time that depends on none of them.
pub(super) fn granted(
    secrets: &[Secret],
    token: &str,
    hub: &str,
    id: &str,
    now: DateTime<Utc>,
) -> Option<Grant> {
    let (claims, signature) = token.rsplit_once('.')?;
    let (grant, signature) = (Grant::of_claims(claims)?, bytes(signature)?);
    let signs = |secret: &Secret| secret.signed(grant, hub, id).verify_slice(&signature).is_ok();
    let signed = secrets.iter().fold(false, |signed, secret| signed | signs(secret));
    let now = u64::try_from(now.timestamp()).unwrap_or(0);
    (signed && now < grant.expires).then_some(grant)
}

/// The bytes of a signature as [`Secret::sign`] writes them: one text for one signature.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.bytes().map(|byte| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Grant =
        Grant { rights: LinkRights(LinkRights::READ.0 | LinkRights::RAISE.0), expires: 1_000 };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 999_999_999).unwrap()
    }

    fn secret(byte: u8) -> Secret {
        Secret::new(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_token_is_the_same_for_ever() {
        let token = secret(7).sign(GRANT, "orders", "order 7/é");
        assert_eq!(
            token,
            "1.re.1000.497016c4ac2ce5f7c2c845eaaa071b7299032524ad7a5d0f34e5fbeb714dbe73"
        );
    }

    #[test]
    fn a_token_opens_its_instance_until_it_expires() {
        let token = secret(1).sign(GRANT, "orders", "a b");
        let open = |hub, id, now| granted(&[secret(1)], &token, hub, id, at(now));
        assert_eq!(open("orders", "a b", 999), Some(GRANT));
        assert_eq!(open("orders", "a b", -5), Some(GRANT));
        assert_eq!(open("orders", "a b", 1_000), None, "expired");
        for (hub, id) in [("order", "a b"), ("orders", "a b "), ("orders", "A b"), ("", "")] {
            assert_eq!(open(hub, id, 0), None, "{hub:?} {id:?}");
        }
    }

    #[test]
    fn either_secret_verifies_and_no_other() {
        let token = secret(2).sign(GRANT, "orders", "a");
        let open = |secrets: &[Secret]| granted(secrets, &token, "orders", "a", at(0)).is_some();
        assert!(open(&[secret(1), secret(2)]) && open(&[secret(2), secret(1)]));
        assert!(!open(&[secret(1), secret(3)]) && !open(&[]));
    }

    #[test]
    fn an_altered_token_opens_nothing() {
        let token = secret(1).sign(GRANT, "orders", "a");
        let opens = |token: &str| granted(&[secret(1)], token, "orders", "a", at(0)).is_some();
        assert!(opens(&token));
        for at in 0..token.len() {
            for other in (0..=127_u8).map(char::from) {
                let mut altered = token.clone();
                altered.replace_range(at..=at, &other.to_string());
                assert_eq!(opens(&altered), altered == token, "{altered}");
            }
            let mut shorter = token.clone();
            shorter.remove(at);
            assert!(!opens(&shorter) && !opens(&token[..at]), "{shorter}");
            let mut longer = token.clone();
            longer.insert(at, '0');
            assert!(!opens(&longer), "{longer}");
        }
        let (claims, signature) = token.rsplit_once('.').unwrap();
        for text in [
            token.to_uppercase(),
            format!("{token}00"),
            format!("{token}.{signature}"),
            format!("{claims}."),
            claims.to_owned(),
            format!("1.er.1000.{signature}"),
            format!("1.re.01000.{signature}"),
            format!("1.re.+1000.{signature}"),
            format!("1.re.99999999999999999999.{signature}"),
            format!("1..1000.{signature}"),
            format!("1.rem.1000.{signature}"),
            format!("2.re.1000.{signature}"),
            format!("...{signature}"),
            "é.é.é.é".to_owned(),
        ] {
            assert!(!opens(&text), "{text}");
        }
    }

    #[test]
    fn rights_are_written_in_one_way() {
        for (rights, letters) in [
            (LinkRights::READ, "r"),
            (LinkRights::INSPECT, "ri"),
            (LinkRights::MANAGE | LinkRights::RAISE | LinkRights::INSPECT, "riem"),
        ] {
            assert_eq!(rights.letters(), letters);
            assert_eq!(LinkRights::of_letters(letters), Some(rights));
        }
        for bad in ["", "i", "ir", "rr", "R", "x", "r i", "em r"] {
            assert_eq!(LinkRights::of_letters(bad), None, "{bad}");
        }
        assert_eq!(format!("{:?}", GRANT.rights), "LinkRights(re)");
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", secret(1)), "Secret(…)");
    }
}
