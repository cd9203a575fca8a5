//! The path of a URL, in both directions.

/// A path whose escapes are not UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotText;

/// The segments of a path, decoded once. One slash at each end does not count; slashes that are escaped
/// belong to their segment.
pub(super) fn segments(path: &str) -> Result<Vec<String>, NotText> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    path.split('/')
        .map(|segment| String::from_utf8(decoded(segment)).map_err(|_| NotText))
        .collect()
}

/// Form decoding: `%XX` is a byte, `+` a blank. A `%` without two digits behind it stands for itself, as
/// URL classes of clients leave it.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (first, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => first,
        });
    }
    bytes
}

/// One segment of a path, or one value of a query: every reading of it gives the text back.
pub(super) fn encoded(text: &str) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                encoded.push('%');
                encoded.push(DIGITS[usize::from(byte >> 4)]);
                encoded.push(DIGITS[usize::from(byte & 15)]);
            }
        }
    }
    encoded
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &str) -> Vec<String> {
        segments(path).unwrap()
    }

    #[test]
    fn one_slash_at_each_end_does_not_count() {
        for path in ["instances", "/instances", "instances/", "/instances/"] {
            assert_eq!(split(path), ["instances"], "{path}");
        }
        for path in ["", "/"] {
            assert!(split(path).is_empty(), "{path:?}");
        }
        assert_eq!(split("//instances"), ["", "instances"]);
        assert_eq!(split("/instances//"), ["instances", ""]);
    }

    #[test]
    fn it_is_split_before_it_is_decoded_and_decoded_once() {
        assert_eq!(split("/instances/a%2Fb/terminate"), ["instances", "a/b", "terminate"]);
        assert_eq!(split("/instances/a%252Fb"), ["instances", "a%2Fb"]);
        assert_eq!(split("/a+b/a%20b/a%2Bb"), ["a b", "a b", "a+b"]);
        assert_eq!(split("/%C3%A9%F0%9F%A6%80:;,.@=()~!$'*"), ["é🦀:;,.@=()~!$'*"]);
    }

    #[test]
    fn a_percent_sign_without_digits_stands_for_itself() {
        assert_eq!(split("/100%/5%zz/%4"), ["100%", "5%zz", "%4"]);
    }

    #[test]
    fn escapes_that_are_no_text_are_refused() {
        assert_eq!(segments("/instances/%FF"), Err(NotText));
        assert_eq!(segments("/%ED%A0%80"), Err(NotText), "a lone surrogate");
    }

    #[test]
    fn what_is_encoded_reads_as_it_was() {
        for text in ["a b", "a+b", "50%", "%41", "é🦀", "\"it's\"", "a/b?c#d&e=f", "INSTANCEID"]
        {
            let path = encoded(text);
            assert_eq!(split(&path), [text], "{path}");
            assert!(!path.contains('+'), "{path}");
        }
        assert_eq!(encoded("a b+c"), "a%20b%2Bc");
    }
}
