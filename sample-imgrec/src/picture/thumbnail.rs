//! Smaller copies of a picture.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{PixelType, ResizeOptions, Resizer};
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::decode::{Pixels, guarded};
use super::{Deadline, Decoded, PictureError, decode};

/// The longest sides that are made, in pixels.
pub const THUMBNAIL_SIZES: [u32; 3] = [320, 640, 1280];

/// Of 100. From about here on larger files look no better at these sizes.
const JPEG_QUALITY: u8 = 82;

/// A picture ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The file: pixels only, no EXIF, no profile, no comment.
    pub bytes: Vec<u8>,
    /// `jpg`, or `png` if the picture is transparent.
    pub extension: &'static str,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// The longest sides of the thumbnails of a picture, smallest first.
///
/// Nothing is enlarged: all sizes above the picture's own are replaced by one of its own size.
pub fn plan(width: u32, height: u32) -> Vec<u32> {
    let own = width.max(height);
    let mut sizes: Vec<u32> = THUMBNAIL_SIZES.into_iter().map(|size| size.min(own)).collect();
    sizes.dedup();
    sizes
}

/// Makes a copy whose longest side has `size` pixels, or the picture's own if that is less.
///
/// # Errors
/// [`PictureError::TooSlow`], or [`PictureError::Encode`], which no picture is known to cause.
pub fn render(decoded: &Decoded, size: u32, deadline: Deadline) -> Result<Encoded, PictureError> {
    let (width, height) = fit(decoded.pixels.size(), size);
    let small = resize(&decoded.pixels, width, height)?;
    deadline.check()?;
    let mut bytes = Vec::new();
    let (written, extension) = match &small {
        Pixels::Opaque(pixels) => (
            JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(
                pixels,
                width,
                height,
                ExtendedColorType::Rgb8,
            ),
            "jpg",
        ),
        Pixels::Transparent(pixels) => (
            PngEncoder::new(Cursor::new(&mut bytes)).write_image(
                pixels,
                width,
                height,
                ExtendedColorType::Rgba8,
            ),
            "png",
        ),
    };
    written.map_err(|error| PictureError::Encode(error.to_string()))?;
    Ok(Encoded { bytes, extension, width, height })
}

/// Decodes a file and makes one thumbnail of it, for steps that share nothing but the file.
///
/// # Errors
/// Those of [`decode()`] and [`render`].
pub fn thumbnail_from_bytes(
    bytes: &[u8],
    size: u32,
    deadline: Deadline,
) -> Result<Encoded, PictureError> {
    let decoded = decode(bytes, deadline)?;
    guarded(decoded.header.format, || render(&decoded, size, deadline))
}

/// Resizes to exactly this size. Transparent pixels do not bleed their hidden colour into visible ones.
pub(crate) fn resize(pixels: &Pixels, width: u32, height: u32) -> Result<Pixels, PictureError> {
    if pixels.size() == (width, height) {
        return Ok(pixels.clone());
    }
    let (own_width, own_height) = pixels.size();
    let (kind, raw) = match pixels {
        Pixels::Opaque(pixels) => (PixelType::U8x3, pixels.as_raw()),
        Pixels::Transparent(pixels) => (PixelType::U8x4, pixels.as_raw()),
    };
    let source = ImageRef::new(own_width, own_height, raw, kind).map_err(encode_error)?;
    let mut target = Image::new(width, height, kind);
    // By default a Lanczos convolution, with U8x4 multiplied by alpha before and divided after.
    Resizer::new().resize(&source, &mut target, &ResizeOptions::new()).map_err(encode_error)?;
    let raw = target.into_vec();
    match pixels {
        Pixels::Opaque(_) => image::RgbImage::from_raw(width, height, raw).map(Pixels::Opaque),
        Pixels::Transparent(_) => {
            image::RgbaImage::from_raw(width, height, raw).map(Pixels::Transparent)
        }
    }
    .ok_or_else(|| PictureError::Encode("the resized picture has the wrong size".to_owned()))
}

/// The size with a longest side of at most `size`, in the same proportions, each side at least one pixel.
pub(crate) fn fit((width, height): (u32, u32), size: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= size {
        return (width, height);
    }
    let scale = |side: u32| {
        let rounded =
            (u64::from(side) * u64::from(size) + u64::from(longest) / 2) / u64::from(longest);
        u32::try_from(rounded).unwrap_or(size).max(1)
    };
    (scale(width), scale(height))
}

fn encode_error(error: impl std::fmt::Display) -> PictureError {
    PictureError::Encode(error.to_string())
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    #[test]
    fn nothing_is_enlarged_and_nothing_is_made_twice() {
        for (width, height, sizes) in [
            (451, 300, &[320, 451][..]),
            (300, 451, &[320, 451]),
            (100, 100, &[100]),
            (320, 10, &[320]),
            (321, 10, &[320, 321]),
            (640, 427, &[320, 640]),
            (1279, 5, &[320, 640, 1279]),
            (4000, 3000, &[320, 640, 1280]),
            (1, 1, &[1]),
        ] {
            assert_eq!(plan(width, height), sizes, "{width} x {height}");
        }
    }

    #[test]
    fn proportions_stay_and_no_side_vanishes() {
        assert_eq!(fit((451, 300), 320), (320, 213));
        assert_eq!(fit((16_000, 1), 320), (320, 1));
        assert_eq!(fit((1, 16_000), 320), (1, 320));
        assert_eq!(fit((100, 50), 320), (100, 50));
    }

    #[test]
    fn the_hidden_colour_of_transparent_pixels_stays_hidden() {
        let stripes = RgbaImage::from_fn(64, 64, |x, _| {
            if x % 2 == 0 { Rgba([255, 0, 0, 255]) } else { Rgba([0, 255, 0, 0]) }
        });
        let Pixels::Transparent(small) = resize(&Pixels::Transparent(stripes), 8, 8).unwrap()
        else {
            panic!("transparency was lost");
        };
        assert!(small.pixels().all(|pixel| pixel.0[1] < 8), "green shines through");
    }
}
