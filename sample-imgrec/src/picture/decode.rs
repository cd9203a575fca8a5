//! From bytes to upright pixels.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::{gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::error::LimitErrorKind;
use image::{DynamicImage, ImageDecoder, ImageError, Limits, RgbImage, RgbaImage};

use super::limits::{MEMORY_BYTES_MAX, SIDE_MAX};
use super::{Deadline, Excess, Format, Header, PictureError, validate};

/// The pixels of a picture, upright, 8 bits a channel.
///
/// Colours are taken as sRGB; an embedded colour profile is not applied.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// What the file said.
    pub header: Header,
    /// The pixels.
    pub pixels: Pixels,
}

/// Pixels with or without transparency.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// Nothing shines through, whether the file has an alpha channel or not.
    Opaque(RgbImage),
    /// At least one pixel is not fully opaque.
    Transparent(RgbaImage),
}

impl Pixels {
    /// Pixels across and down.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Opaque(pixels) => pixels.dimensions(),
            Self::Transparent(pixels) => pixels.dimensions(),
        }
    }
}

/// Decodes the first frame of a file and turns it upright.
///
/// Calls [`validate`] itself, so no pixel of an unacceptable picture is ever decoded. A decoder that panics is
/// caught, its file is [`PictureError::Corrupt`].
///
/// # Errors
/// A rejection, see [`PictureError::is_rejection`], or [`PictureError::TooSlow`].
pub fn decode(bytes: &[u8], deadline: Deadline) -> Result<Decoded, PictureError> {
    let header = validate(bytes)?;
    let format = header.format;
    guarded(format, || {
        let mut pixels = decode_stored(bytes, &header, deadline)?;
        deadline.check()?;
        header.orientation.apply(&mut pixels);
        deadline.check()?;
        Ok(Decoded { pixels: flatten(pixels), header })
    })
}

/// Runs foreign code on untrusted bytes; a panic in it becomes an answer.
///
/// The panic hook still runs, so the message is not lost to whoever watches the log.
pub(crate) fn guarded<T>(
    format: Format,
    work: impl FnOnce() -> Result<T, PictureError>,
) -> Result<T, PictureError> {
    // Nothing outlives the call but its result, so no half-changed state can be seen afterwards.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(PictureError::corrupt(format, "the decoder stumbled over it")))
}

fn decode_stored(
    bytes: &[u8],
    header: &Header,
    deadline: Deadline,
) -> Result<DynamicImage, PictureError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(MEMORY_BYTES_MAX);

    let reader = Timed { bytes: Cursor::new(bytes), deadline };
    let decoded = match header.format {
        Format::Jpeg => {
            JpegDecoder::new(reader).and_then(|decoder| pixels_of(decoder, limits, header))
        }
        Format::Png => PngDecoder::with_limits(reader, limits.clone())
            .and_then(|decoder| pixels_of(decoder, limits, header)),
        Format::WebP => {
            WebPDecoder::new(reader).and_then(|decoder| pixels_of(decoder, limits, header))
        }
        Format::Gif => {
            GifDecoder::new(reader).and_then(|decoder| pixels_of(decoder, limits, header))
        }
    };
    decoded.map_err(|error| {
        // A decoder wraps the reader's refusal in its own words, so the clock is asked instead of the error.
        deadline.check().err().unwrap_or_else(|| translate(header.format, &error))
    })
}

fn pixels_of(
    mut decoder: impl ImageDecoder,
    limits: Limits,
    header: &Header,
) -> Result<DynamicImage, ImageError> {
    if decoder.dimensions() != header.stored_size() {
        // The limits were checked for the header's dimensions, so no others may be decoded.
        return Err(ImageError::IoError(io::Error::new(
            io::ErrorKind::InvalidData,
            "it contradicts itself about its size",
        )));
    }
    decoder.set_limits(limits)?;
    DynamicImage::from_decoder(decoder)
}

fn translate(format: Format, error: &ImageError) -> PictureError {
    match error {
        ImageError::Limits(limit) if matches!(limit.kind(), LimitErrorKind::InsufficientMemory) => {
            PictureError::TooLarge(Excess::Memory)
        }
        ImageError::Unsupported(_) => PictureError::Unsupported {
            found: format!("this is a kind of {format} that is not known here"),
        },
        ImageError::IoError(error) => PictureError::corrupt(format, error.to_string()),
        other => PictureError::corrupt(format, other.to_string()),
    }
}

/// To 8 bits a channel, without an alpha channel that says nothing.
fn flatten(pixels: DynamicImage) -> Pixels {
    if !pixels.color().has_alpha() {
        return Pixels::Opaque(pixels.into_rgb8());
    }
    let pixels = pixels.into_rgba8();
    if pixels.pixels().all(|pixel| pixel.0[3] == u8::MAX) {
        Pixels::Opaque(DynamicImage::ImageRgba8(pixels).into_rgb8())
    } else {
        Pixels::Transparent(pixels)
    }
}

/// Hands a file to a decoder in pieces and stops when the time is over.
struct Timed<'a> {
    bytes: Cursor<&'a [u8]>,
    deadline: Deadline,
}

impl Timed<'_> {
    fn check(&self) -> io::Result<()> {
        self.deadline.check().map_err(|error| io::Error::new(io::ErrorKind::TimedOut, error))
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let piece = into.len().min(Deadline::PIECE_BYTES);
        self.bytes.read(&mut into[..piece])
    }
}

impl BufRead for Timed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        let rest = self.bytes.fill_buf()?;
        Ok(&rest[..rest.len().min(Deadline::PIECE_BYTES)])
    }

    fn consume(&mut self, length: usize) {
        self.bytes.consume(length);
    }
}

impl Seek for Timed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ROCKET: &[u8] = include_bytes!("../../testdata/rocket.jpg");
    const CHELSEA: &[u8] = include_bytes!("../../testdata/chelsea.png");

    #[test]
    fn pictures_come_out_in_their_size() {
        for bytes in [ROCKET, CHELSEA] {
            let decoded = decode(bytes, Deadline::standard()).unwrap();
            assert_eq!(decoded.pixels.size(), (decoded.header.width, decoded.header.height));
            assert!(matches!(decoded.pixels, Pixels::Opaque(_)));
        }
    }

    #[test]
    fn time_that_is_over_stops_the_decoder_and_is_no_rejection() {
        for bytes in [ROCKET, CHELSEA] {
            let error = decode(bytes, Deadline::after(Duration::ZERO)).unwrap_err();
            assert!(matches!(error, PictureError::TooSlow { .. }), "{error}");
            assert!(!error.is_rejection());
        }
    }

    #[test]
    fn a_panic_is_a_damaged_file() {
        let answer: Result<(), _> = guarded(Format::Gif, || panic!("decoder bug"));
        assert!(answer.unwrap_err().is_rejection());
    }

    #[test]
    fn a_flipped_bit_in_a_png_is_noticed() {
        let mut bytes = CHELSEA.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        validate(&bytes).unwrap();
        assert!(decode(&bytes, Deadline::none()).unwrap_err().is_rejection());
    }
}
