//! What a file is, by its content. Names and announced types are never asked.

use super::{Format, PictureError};

/// Bytes that are enough to tell a format.
pub const SNIFF_BYTES: usize = 16;

/// Tells the format from the beginning of a file.
///
/// # Errors
/// [`PictureError::Empty`] or [`PictureError::Unsupported`], which says what the content looks like instead.
pub fn sniff(bytes: &[u8]) -> Result<Format, PictureError> {
    match bytes {
        [] => Err(PictureError::Empty),
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        other => Err(PictureError::Unsupported { found: guess(other).to_owned() }),
    }
}

/// A name for what people most often take for an accepted picture.
fn guess(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'B', b'M', ..] => "this looks like a BMP picture",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => {
            "this looks like a TIFF or camera raw picture"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => {
            "this looks like an AVIF picture"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i', b'f', ..] => {
            "this looks like a HEIC picture"
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "this looks like a video",
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', ..] => {
            "this looks like a JPEG XL picture"
        }
        [b'%', b'P', b'D', b'F', ..] => "this looks like a PDF document",
        [b'P', b'K', 3, 4, ..] => "this looks like a ZIP archive",
        [0, 0, 1, 0, ..] => "this looks like an icon file",
        _ => text_or_unknown(bytes),
    }
}

fn text_or_unknown(bytes: &[u8]) -> &'static str {
    let start = &bytes[..bytes.len().min(512)];
    let readable = match std::str::from_utf8(start) {
        Ok(text) => Some(text),
        // The cut at 512 bytes may fall into a character; that is no reason to call text unknown.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match readable {
        Some(text) if text.contains("<svg") => "this looks like an SVG drawing",
        Some(text) if text.chars().all(|c| !c.is_control() || c.is_whitespace()) => {
            "this looks like text"
        }
        Some(_) | None => "the content is no picture that is known here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        assert_eq!(sniff(b"\xff\xd8\xff\xe0").unwrap(), Format::Jpeg);
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n").unwrap(), Format::Png);
        assert_eq!(sniff(b"GIF89a").unwrap(), Format::Gif);
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 ").unwrap(), Format::WebP);
        assert!(matches!(sniff(b""), Err(PictureError::Empty)));
    }

    #[test]
    fn the_reason_says_what_it_looks_like() {
        for (bytes, words) in [
            (&b"hello, I am no picture\n"[..], "text"),
            ("grüße".as_bytes(), "text"),
            (b"<?xml version='1.0'?><svg/>", "SVG"),
            (b"\0\0\0\x18ftypheic\0\0", "HEIC"),
            (b"RIFF\0\0\0\0WAVE", "no picture"),
            (b"\x89PNG\r\n", "no picture"),
            (b"\xff", "no picture"),
        ] {
            let reason = sniff(bytes).unwrap_err().to_string();
            assert!(reason.contains(words), "{reason}");
        }
    }
}
