//! What a picture may cost, checked before anything is spent on it.

use std::fmt;
use std::time::{Duration, Instant};

use super::error::{Excess, PictureError};

/// Bytes a file may have.
pub const FILE_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// Pixels a side may have.
pub const SIDE_MAX: u32 = 16_000;

/// Pixels a picture may have.
pub const PIXELS_MAX: u64 = 50_000_000;

/// Bytes one decoder may allocate, as far as it counts them: the second line behind the pixel limit.
pub const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The costliest pixel, 16-bit RGBA, fits for the largest picture: a picture within the pixel limit is never
/// refused for the memory of its own pixels.
const _: () = assert!(PIXELS_MAX * 8 <= MEMORY_BYTES_MAX);

/// Scans a JPEG may have.
///
/// Each scan of a progressive JPEG goes over all its pixels, and the decoder cannot be stopped in between. Encoders
/// write about 10; libjpeg-turbo's fuzzers refuse more than 500 for the same reason.
pub const JPEG_SCANS_MAX: u32 = 64;

/// How long decoding one picture may take.
pub const DECODE_TIME_MAX: Duration = Duration::from_secs(10);

/// Checks the size of a file.
///
/// # Errors
/// [`PictureError::Empty`] or [`PictureError::TooLarge`].
pub fn check_size(size: u64) -> Result<(), PictureError> {
    match size {
        0 => Err(PictureError::Empty),
        1..=FILE_BYTES_MAX => Ok(()),
        _ => Err(PictureError::TooLarge(Excess::Bytes { size })),
    }
}

/// Checks the dimensions that a header announces.
///
/// # Errors
/// [`PictureError::TooLarge`].
pub fn check_dimensions(width: u32, height: u32) -> Result<(), PictureError> {
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(PictureError::TooLarge(Excess::Side { width, height }));
    }
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(PictureError::TooLarge(Excess::Pixels { width, height }));
    }
    Ok(())
}

/// When to give up on a picture.
///
/// What it bounds: the decoders of PNG, GIF and lossless WebP ask each time they fetch a further piece of the file, of at
/// most [`Deadline::PIECE_BYTES`], and every step of this package asks between its parts. The decoders of JPEG and lossy
/// WebP take the picture as a whole and do not ask; their work is bounded by [`PIXELS_MAX`], for JPEG times
/// [`JPEG_SCANS_MAX`], instead.
#[derive(Clone, Copy)]
pub struct Deadline {
    at: Option<(Instant, Duration)>,
}

impl Deadline {
    /// The largest piece of a file that a decoder gets between two looks at the clock.
    pub const PIECE_BYTES: usize = 4096;

    /// From now on, this long.
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now().checked_add(limit).map(|at| (at, limit)) }
    }

    /// From now on, [`DECODE_TIME_MAX`].
    pub fn standard() -> Self {
        Self::after(DECODE_TIME_MAX)
    }

    /// Never.
    pub fn none() -> Self {
        Self { at: None }
    }

    /// Asks whether the time is over.
    ///
    /// # Errors
    /// [`PictureError::TooSlow`] if it is.
    pub fn check(&self) -> Result<(), PictureError> {
        match self.at {
            Some((at, limit)) if Instant::now() >= at => Err(PictureError::TooSlow { limit }),
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((_, limit)) => write!(f, "Deadline({limit:?})"),
            None => write!(f, "Deadline(never)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_themselves_are_allowed() {
        assert!(check_size(FILE_BYTES_MAX).is_ok());
        assert!(check_size(FILE_BYTES_MAX + 1).is_err());
        assert!(check_dimensions(SIDE_MAX, 3125).is_ok());
        assert!(check_dimensions(SIDE_MAX, 3126).is_err());
        assert!(check_dimensions(SIDE_MAX + 1, 1).is_err());
        assert!(check_dimensions(u32::MAX, u32::MAX).is_err());
    }

    #[test]
    fn a_deadline_runs_out_and_none_does_not() {
        assert!(matches!(
            Deadline::after(Duration::ZERO).check(),
            Err(PictureError::TooSlow { limit: Duration::ZERO })
        ));
        assert!(Deadline::standard().check().is_ok());
        assert!(Deadline::none().check().is_ok());
    }
}
