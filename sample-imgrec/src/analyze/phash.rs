//! A hash that is alike for pictures that look alike.

use std::f64::consts::PI;
use std::fmt;
use std::num::ParseIntError;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Look, luma};
use crate::picture::PictureError;
use crate::picture::decode::Pixels;
use crate::picture::thumbnail::resize;

/// Side of the square the picture is pressed into.
const SIDE: u32 = 32;

/// Low frequencies that are kept, in both directions.
const KEPT: usize = 8;

/// 64 bits: which of the lowest frequencies of the picture lie above their median. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PerceptualHash(u64);

impl PerceptualHash {
    /// Bits that differ. Up to about 8 it is likely the same picture in another size or quality.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

impl fmt::Display for PerceptualHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<PerceptualHash> for String {
    fn from(hash: PerceptualHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for PerceptualHash {
    type Error = ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

pub(crate) fn perceptual_hash(look: &Look) -> Result<PerceptualHash, PictureError> {
    let (Ok(width), Ok(height)) = (u32::try_from(look.width), u32::try_from(look.height)) else {
        return Err(PictureError::Encode("the copy that is looked at is too large".to_owned()));
    };
    let whole = RgbImage::from_raw(width, height, look.pixels.concat()).ok_or_else(|| {
        PictureError::Encode("the copy that is looked at has the wrong size".to_owned())
    })?;
    let Pixels::Opaque(small) = resize(&Pixels::Opaque(whole), SIDE, SIDE)? else {
        return Err(PictureError::Encode("resizing added transparency".to_owned()));
    };
    let values: Vec<f64> = small.pixels().map(|pixel| f64::from(luma(pixel.0))).collect();

    let waves: Vec<f64> =
        (0..KEPT).flat_map(|frequency| (0..SIDE).map(move |at| wave(frequency, at))).collect();
    let side = SIDE as usize;
    let mut frequencies = [0.0; KEPT * KEPT];
    for (index, frequency) in frequencies.iter_mut().enumerate() {
        let (v, u) = (index / KEPT, index % KEPT);
        for y in 0..side {
            for x in 0..side {
                *frequency += values[y * side + x] * waves[u * side + x] * waves[v * side + y];
            }
        }
        // Rounded so that noise in the last digits of a plain area does not decide a bit.
        *frequency = (*frequency).round();
    }
    // The mean brightness comes first and is left out: it says nothing about the shapes.
    let mut sorted = frequencies[1..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let bits = frequencies
        .iter()
        .enumerate()
        .filter(|(index, frequency)| *index > 0 && **frequency > median)
        .fold(0, |bits, (index, _)| bits | 1 << index);
    Ok(PerceptualHash(bits))
}

/// One sample of a wave of the discrete cosine transform.
fn wave(frequency: usize, at: u32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "below 8")]
    let frequency = frequency as f64;
    (PI * frequency * (2.0 * f64::from(at) + 1.0) / (2.0 * f64::from(SIDE))).cos()
}

#[cfg(test)]
mod tests {
    use super::super::{AnalyzeOptions, analyze_bytes};
    use super::*;
    use crate::picture::{Deadline, thumbnail_from_bytes};

    fn hash(bytes: &[u8]) -> PerceptualHash {
        analyze_bytes(bytes, AnalyzeOptions::default(), Deadline::none()).unwrap().perceptual_hash
    }

    #[test]
    fn a_thumbnail_is_near_and_another_picture_is_far() {
        let rocket = include_bytes!("../../testdata/rocket.jpg");
        let moon = include_bytes!("../../testdata/moon.png");
        let small = thumbnail_from_bytes(rocket, 320, Deadline::none()).unwrap();
        assert!(hash(rocket).distance(hash(&small.bytes)) <= 4);
        assert!(hash(rocket).distance(hash(moon)) > 16);
    }
}
