//! Clip art and line drawings, guessed by rules of thumb.
//!
//! No model is behind this. The rules are written to say "no" to photographs even at the price of missing drawings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::colors::share;
use super::{Look, luma};
use crate::picture::decode::Pixels;

/// Pixels of the picture itself, at most, whose exact values are compared.
const SAMPLES_MAX: usize = 60_000;

/// How much the picture is clip art or a line drawing, in the numbers of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageType {
    /// 0 no clip art, 1 ambiguous, 2 normal, 3 good clip art.
    ///
    /// Clip art has areas of one exact colour and few colours in all. Counted on the picture's own pixels: how many
    /// equal their right neighbour, and how much of the picture its 16 commonest colours cover.
    pub clip_art_type: u8,
    /// 1 for a line drawing, else 0.
    ///
    /// A line drawing has no colour, mostly light paper, a few per cent of dark ink and little in between.
    pub line_drawing_type: u8,
}

pub(crate) fn image_type(pixels: &Pixels, look: &Look) -> ImageType {
    ImageType { clip_art_type: clip_art(pixels), line_drawing_type: line_drawing(look).into() }
}

fn clip_art(pixels: &Pixels) -> u8 {
    let (width, height) = pixels.size();
    if width < 16 || height < 16 {
        // Too small for areas to mean anything.
        return 0;
    }
    let at = |x: u32, y: u32| match pixels {
        Pixels::Opaque(pixels) => pixels.get_pixel(x, y).0,
        Pixels::Transparent(pixels) => {
            let [r, g, b, a] = pixels.get_pixel(x, y).0;
            // What cannot be seen is one colour.
            if a < 128 { [255; 3] } else { [r, g, b] }
        }
    };
    let pairs = (width as usize - 1) * height as usize;
    // A step without a common factor with the width would be ideal; an odd one spreads well enough.
    let step = (pairs / SAMPLES_MAX) | 1;
    let mut flat = 0;
    let mut total = 0;
    let mut counts: BTreeMap<[u8; 3], usize> = BTreeMap::new();
    for pair in (0..pairs).step_by(step) {
        let (x, y) = (pair % (width as usize - 1), pair / (width as usize - 1));
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { break };
        let here = at(x, y);
        total += 1;
        flat += usize::from(here == at(x + 1, y));
        *counts.entry(here).or_default() += 1;
    }
    let mut commonest: Vec<usize> = counts.into_values().collect();
    commonest.sort_unstable_by(|a, b| b.cmp(a));
    let covered = share(commonest.iter().take(16).sum(), total);
    match (share(flat, total), covered) {
        (0.9.., 0.95..) => 3,
        (0.85.., 0.85..) => 2,
        (0.8.., 0.75..) => 1,
        _ => 0,
    }
}

fn line_drawing(look: &Look) -> bool {
    let (mut paper, mut ink, mut colored) = (0, 0, 0);
    for &[r, g, b] in &look.pixels {
        colored += usize::from(r.max(g).max(b) - r.min(g).min(b) > 24);
        match luma([r, g, b]) {
            215.0.. => paper += 1,
            ..100.0 => ink += 1,
            _ => {}
        }
    }
    let total = look.pixels.len();
    let between = share(total - paper - ink, total);
    share(colored, total) < 0.01
        && share(paper, total) > 0.75
        && (0.005..0.2).contains(&share(ink, total))
        && between < 0.12
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn judged(picture: RgbImage) -> ImageType {
        let pixels = Pixels::Opaque(picture);
        let look = Look::new(pixels.clone());
        image_type(&pixels, &look)
    }

    #[test]
    fn flat_shapes_are_clip_art() {
        let picture = RgbImage::from_fn(200, 200, |x, y| {
            if x.abs_diff(100).pow(2) + y.abs_diff(100).pow(2) < 60 * 60 {
                Rgb([230, 60, 30])
            } else {
                Rgb([240, 240, 120])
            }
        });
        assert_eq!(judged(picture), ImageType { clip_art_type: 3, line_drawing_type: 0 });
    }

    #[test]
    fn thin_ink_on_paper_is_a_drawing() {
        let picture = RgbImage::from_fn(200, 200, |x, y| {
            if x % 40 == 0 || (x + y) % 50 == 0 { Rgb([20; 3]) } else { Rgb([252; 3]) }
        });
        assert_eq!(judged(picture).line_drawing_type, 1);
    }

    #[test]
    fn a_gradient_is_neither() {
        let picture = RgbImage::from_fn(256, 256, |x, y| {
            Rgb([x, y, (x + y) / 2].map(|value| u8::try_from(value).unwrap()))
        });
        assert_eq!(judged(picture), ImageType::default());
    }
}
