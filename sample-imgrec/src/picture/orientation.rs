//! Turning pictures upright.

use image::DynamicImage;
use image::metadata::Orientation as Turn;
use serde::{Deserialize, Serialize};

/// How the stored pixels have to be turned to be upright: the EXIF orientation, 1 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Orientation(u8);

impl Orientation {
    /// Upright as stored.
    pub const UPRIGHT: Self = Self(1);

    /// The value of the EXIF tag; `None` unless it is 1 to 8.
    pub fn from_exif(value: u32) -> Option<Self> {
        u8::try_from(value).ok().filter(|value| (1..=8).contains(value)).map(Self)
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// The size of the upright picture, from the stored one.
    pub fn upright(self, width: u32, height: u32) -> (u32, u32) {
        if self.swaps_sides() { (height, width) } else { (width, height) }
    }

    /// Turns the pixels.
    pub fn apply(self, pixels: &mut DynamicImage) {
        if let Some(turn) = Turn::from_exif(self.0) {
            pixels.apply_orientation(turn);
        }
    }
}

impl Default for Orientation {
    fn default() -> Self {
        Self::UPRIGHT
    }
}

impl From<Orientation> for u8 {
    fn from(orientation: Orientation) -> Self {
        orientation.0
    }
}

impl TryFrom<u8> for Orientation {
    type Error = String;

    fn try_from(value: u8) -> Result<Self, Self::Error> {
        Self::from_exif(value.into())
            .ok_or_else(|| format!("{value} is no orientation from 1 to 8"))
    }
}
