//! One picture: what it is, whether it is acceptable, its pixels and its thumbnails.
//!
//! The way through is [`validate`], which looks at headers and structure only, then [`decode::decode`], then
//! [`thumbnail::render`]. Everything takes the bytes of a file and is pure: the same bytes give the same answer.

pub mod decode;
pub mod error;
pub mod exif;
pub mod header;
pub mod limits;
pub mod orientation;
pub mod sniff;
pub mod thumbnail;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use decode::{Decoded, decode};
pub use error::{Excess, PictureError};
pub use header::Header;
pub use limits::Deadline;
pub use orientation::Orientation;
pub use thumbnail::{Encoded, THUMBNAIL_SIZES, plan, render, thumbnail_from_bytes};

/// The formats that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Format {
    /// JPEG, baseline or progressive, grey, colour or CMYK.
    Jpeg,
    /// PNG; of an animated one the default image.
    Png,
    /// WebP, lossy or lossless; of an animated one the first frame.
    #[serde(rename = "Webp")]
    WebP,
    /// GIF; of an animated one the first frame.
    Gif,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
        })
    }
}

/// Accepts a file or says why not, without decoding a pixel.
///
/// Size, format, dimensions and structure are checked, in this order, so a picture of 30 000 x 30 000 px is refused
/// as such after its first 24 bytes. What only decoding shows, such as a wrong checksum, comes up later as
/// [`PictureError::Corrupt`].
///
/// # Errors
/// A rejection, see [`PictureError::is_rejection`].
pub fn validate(bytes: &[u8]) -> Result<Header, PictureError> {
    limits::check_size(bytes.len() as u64)?;
    let format = sniff::sniff(bytes)?;
    decode::guarded(format, || header::read(bytes))
}
