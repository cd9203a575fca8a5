//! Colours in words.
//!
//! Pixels are grouped in Oklab, where distance is what the eye calls difference, and each group gets one of the
//! service's 12 names by lightness, chroma and hue.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Look;

/// Groups that pixels are sorted into: enough to keep a small bright thing apart from a large dull one.
const CLUSTERS: usize = 10;

/// Rounds of sorting. After about eight nothing moves that would change a name.
const ROUNDS: usize = 10;

/// Pixels that are sorted; of more, every so manieth.
const SAMPLES_MAX: usize = 12_000;

/// Part of the picture a name needs to count as dominant.
const DOMINANT_SHARE: f32 = 0.12;

/// Names that are listed as dominant.
const DOMINANT_MAX: usize = 4;

/// Part of the picture a group needs to give the accent.
const ACCENT_SHARE: f32 = 0.005;

/// Spread between the channels of a pixel, of 255, up to which it passes for grey. JPEG leaves a trace of colour.
const GREY_SPREAD: u8 = 10;

/// Part of the pixels that have to be grey in a black-and-white picture.
const GREY_SHARE: f32 = 0.995;

/// The colour names of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum ColorName {
    Black,
    Blue,
    Brown,
    Gray,
    Green,
    Orange,
    Pink,
    Purple,
    Red,
    Teal,
    White,
    Yellow,
}

impl ColorName {
    /// All of them, in alphabetical order.
    pub const ALL: [Self; 12] = [
        Self::Black,
        Self::Blue,
        Self::Brown,
        Self::Gray,
        Self::Green,
        Self::Orange,
        Self::Pink,
        Self::Purple,
        Self::Red,
        Self::Teal,
        Self::White,
        Self::Yellow,
    ];
}

impl fmt::Display for ColorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The colours of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColorInfo {
    /// The commonest colour of the middle: the inner half of both sides.
    pub dominant_color_foreground: ColorName,
    /// The commonest colour of what surrounds the middle.
    pub dominant_color_background: ColorName,
    /// The commonest colours, commonest first.
    pub dominant_colors: Vec<ColorName>,
    /// The most vivid colour that is not just a speck, as six hexadecimal digits.
    pub accent_color: String,
    /// Whether the picture has shades of grey only.
    #[serde(rename = "isBWImg", alias = "isBwImg")]
    pub is_bw_img: bool,
}

/// Looks for the colours of a picture.
pub(crate) fn colors(look: &Look) -> ColorInfo {
    let step = look.pixels.len().div_ceil(SAMPLES_MAX).max(1);
    let samples: Vec<Oklab> =
        look.pixels.iter().step_by(step).map(|&rgb| Oklab::from_srgb(rgb)).collect();
    let clusters = clusters(&samples);

    let mut whole = Shares::default();
    let mut middle = Shares::default();
    let mut around = Shares::default();
    let mut sizes = vec![0_usize; clusters.len()];
    for (index, sample) in samples.iter().enumerate() {
        let nearest = nearest(&clusters, *sample);
        sizes[nearest] += 1;
        let name = clusters[nearest].name();
        whole.add(name);
        let (x, y) = ((index * step) % look.width, (index * step) / look.width);
        if is_middle(x, look.width) && is_middle(y, look.height) {
            middle.add(name);
        } else {
            around.add(name);
        }
    }

    let accent = clusters
        .iter()
        .zip(&sizes)
        .filter(|(_, size)| share(**size, samples.len()) >= ACCENT_SHARE)
        .max_by(|(a, a_size), (b, b_size)| {
            // Vividness first; the root lets a large patch win over a slightly more vivid small one.
            let score =
                |color: &Oklab, size: usize| color.chroma() * share(size, samples.len()).powf(0.25);
            score(a, **a_size).total_cmp(&score(b, **b_size))
        })
        .map_or([0; 3], |(color, _)| color.to_srgb());
    let ranked = whole.ranked();
    let commonest = ranked.first().map_or(ColorName::Gray, |(name, _)| *name);
    ColorInfo {
        dominant_color_foreground: middle.ranked().first().map_or(commonest, |(name, _)| *name),
        dominant_color_background: around.ranked().first().map_or(commonest, |(name, _)| *name),
        dominant_colors: ranked
            .iter()
            .enumerate()
            .filter(|(rank, (_, share))| *rank == 0 || *share >= DOMINANT_SHARE)
            .map(|(_, (name, _))| *name)
            .take(DOMINANT_MAX)
            .collect(),
        accent_color: accent.map(|channel| format!("{channel:02X}")).concat(),
        is_bw_img: is_black_and_white(look),
    }
}

fn is_middle(at: usize, length: usize) -> bool {
    (length / 4..length - length / 4).contains(&at)
}

fn is_black_and_white(look: &Look) -> bool {
    let grey = look
        .pixels
        .iter()
        .filter(|[r, g, b]| *r.max(g).max(b) - *r.min(g).min(b) <= GREY_SPREAD)
        .count();
    share(grey, look.pixels.len()) >= GREY_SHARE
}

#[expect(clippy::cast_precision_loss, reason = "counts of at most a million pixels")]
pub(crate) fn share(part: usize, whole: usize) -> f32 {
    part as f32 / whole.max(1) as f32
}

/// How many samples have each name.
#[derive(Default)]
struct Shares([usize; ColorName::ALL.len()]);

impl Shares {
    fn add(&mut self, name: ColorName) {
        self.0[name as usize] += 1;
    }

    /// Names that occur, commonest first, equally common ones by the alphabet.
    fn ranked(&self) -> Vec<(ColorName, f32)> {
        let total = self.0.iter().sum();
        let mut ranked: Vec<_> =
            ColorName::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0).collect();
        ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        ranked.into_iter().map(|(name, count)| (name, share(count, total))).collect()
    }
}

/// A colour in Oklab (Björn Ottosson, "A perceptual color space for image processing", 2020).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Oklab {
    l: f32,
    a: f32,
    b: f32,
}

impl Oklab {
    pub(crate) fn from_srgb(rgb: [u8; 3]) -> Self {
        let [r, g, b] = rgb.map(|channel| {
            let value = f32::from(channel) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
        Self {
            l: 0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
            a: 1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
            b: 0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
        }
    }

    fn to_srgb(self) -> [u8; 3] {
        let l = (self.l + 0.396_337_78 * self.a + 0.215_803_76 * self.b).powi(3);
        let m = (self.l - 0.105_561_346 * self.a - 0.063_854_17 * self.b).powi(3);
        let s = (self.l - 0.089_484_18 * self.a - 1.291_485_5 * self.b).powi(3);
        [
            4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
            -1.268_438 * l + 2.609_757_4 * m - 0.341_319_38 * s,
            -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
        ]
        .map(|linear| {
            let linear = linear.clamp(0.0, 1.0);
            let value = if linear <= 0.003_130_8 {
                linear * 12.92
            } else {
                1.055 * linear.powf(1.0 / 2.4) - 0.055
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to the range of a byte"
            )]
            let byte = (value * 255.0).round().clamp(0.0, 255.0) as u8;
            byte
        })
    }

    fn chroma(&self) -> f32 {
        self.a.hypot(self.b)
    }

    fn distance(self, other: Self) -> f32 {
        (self.l - other.l).powi(2) + (self.a - other.a).powi(2) + (self.b - other.b).powi(2)
    }

    /// The name people give this colour, by rules tried on the named colours of CSS.
    fn name(self) -> ColorName {
        let chroma = self.chroma();
        if self.l < 0.2 || (self.l < 0.3 && chroma < 0.045) {
            return ColorName::Black;
        }
        // A light tint is called white long before a middle one is called grey.
        if chroma < 0.03 || (self.l > 0.93 && chroma < 0.05) {
            return if self.l > 0.88 { ColorName::White } else { ColorName::Gray };
        }
        let hue = self.b.atan2(self.a).to_degrees().rem_euclid(360.0);
        match hue {
            15.0..33.0 if self.l >= 0.72 => ColorName::Pink,
            15.0..33.0 if chroma >= 0.1 => ColorName::Red,
            15.0..33.0 => ColorName::Brown,
            // Skin and peach, then cream: light, with too little colour to be orange.
            33.0..65.0 if self.l >= 0.85 && chroma < 0.1 => ColorName::Pink,
            65.0..85.0 if self.l >= 0.88 && chroma < 0.1 => ColorName::Yellow,
            33.0..85.0 if self.l < 0.6 || chroma < 0.1 => ColorName::Brown,
            33.0..85.0 => ColorName::Orange,
            85.0..112.0 if self.l >= 0.68 => ColorName::Yellow,
            85.0..100.0 => ColorName::Brown,
            85.0..165.0 => ColorName::Green,
            165.0..218.0 => ColorName::Teal,
            218.0..288.0 => ColorName::Blue,
            288.0..345.0 if self.l >= 0.78 && hue >= 310.0 => ColorName::Pink,
            288.0..345.0 => ColorName::Purple,
            // Around the end of the circle: cool red.
            _ if self.l >= 0.62 => ColorName::Pink,
            _ => ColorName::Red,
        }
    }
}

/// Sorts colours into groups and gives their means. No chance involved: starts are taken farthest first.
fn clusters(samples: &[Oklab]) -> Vec<Oklab> {
    let mut centers = vec![mean(samples.iter().copied())];
    let mut distances: Vec<f32> =
        samples.iter().map(|sample| sample.distance(centers[0])).collect();
    while centers.len() < CLUSTERS {
        let farthest = distances.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((index, _)) = farthest.filter(|(_, distance)| **distance > 1e-5) else { break };
        let center = samples[index];
        for (distance, sample) in distances.iter_mut().zip(samples) {
            *distance = distance.min(sample.distance(center));
        }
        centers.push(center);
    }
    for _ in 0..ROUNDS {
        let mut groups = vec![Vec::new(); centers.len()];
        for sample in samples {
            groups[nearest(&centers, *sample)].push(*sample);
        }
        for (center, group) in centers.iter_mut().zip(groups) {
            if !group.is_empty() {
                *center = mean(group.into_iter());
            }
        }
    }
    centers
}

fn nearest(centers: &[Oklab], sample: Oklab) -> usize {
    centers
        .iter()
        .enumerate()
        .min_by(|(_, a), (_, b)| a.distance(sample).total_cmp(&b.distance(sample)))
        .map_or(0, |(index, _)| index)
}

fn mean(samples: impl Iterator<Item = Oklab>) -> Oklab {
    let mut sum = [0.0_f64; 3];
    let mut count = 0_u32;
    for Oklab { l, a, b } in samples {
        for (sum, part) in sum.iter_mut().zip([l, a, b]) {
            *sum += f64::from(part);
        }
        count += 1;
    }
    #[expect(clippy::cast_possible_truncation, reason = "back to the precision it came from")]
    let [l, a, b] = sum.map(|sum| (sum / f64::from(count.max(1))) as f32);
    Oklab { l, a, b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_people_use() {
        use ColorName::*;
        for (rgb, name) in [
            ([0, 0, 0], Black),
            ([20, 20, 24], Black),
            ([128, 128, 128], Gray),
            ([192, 192, 192], Gray),
            ([255, 255, 255], White),
            ([255, 250, 240], White),
            ([255, 0, 0], Red),
            ([178, 34, 34], Red),
            ([220, 20, 60], Red),
            ([255, 165, 0], Orange),
            ([255, 140, 0], Orange),
            ([255, 255, 0], Yellow),
            ([255, 215, 0], Yellow),
            ([0, 128, 0], Green),
            ([34, 139, 34], Green),
            ([128, 128, 0], Green),
            ([0, 128, 128], Teal),
            ([64, 224, 208], Teal),
            ([0, 0, 255], Blue),
            ([0, 0, 128], Blue),
            ([135, 206, 235], Blue),
            ([128, 0, 128], Purple),
            ([75, 0, 130], Purple),
            ([255, 192, 203], Pink),
            ([255, 105, 180], Pink),
            ([139, 69, 19], Brown),
            ([101, 67, 33], Brown),
            ([210, 180, 140], Brown),
            ([160, 82, 45], Brown),
            ([255, 127, 80], Orange),
            ([250, 128, 114], Pink),
            ([245, 222, 179], Yellow),
        ] {
            assert_eq!(Oklab::from_srgb(rgb).name(), name, "{rgb:?}");
        }
    }

    #[test]
    fn oklab_and_back_is_the_same_colour() {
        for rgb in [[0, 0, 0], [255, 255, 255], [12, 200, 99], [250, 3, 77]] {
            assert_eq!(Oklab::from_srgb(rgb).to_srgb(), rgb);
        }
    }

    fn look(width: usize, height: usize, color: impl Fn(usize, usize) -> [u8; 3]) -> Look {
        let pixels = (0..width * height).map(|at| color(at % width, at / width)).collect();
        Look { width, height, pixels }
    }

    #[test]
    fn a_red_square_on_white() {
        let info = colors(&look(100, 100, |x, y| {
            if (30..70).contains(&x) && (30..70).contains(&y) { [220, 20, 30] } else { [255; 3] }
        }));
        assert_eq!(info.dominant_color_foreground, ColorName::Red);
        assert_eq!(info.dominant_color_background, ColorName::White);
        assert_eq!(info.dominant_colors, [ColorName::White, ColorName::Red]);
        assert_eq!(info.accent_color, "DC141E");
        assert!(!info.is_bw_img);
    }

    #[test]
    fn one_pixel_has_a_colour_too() {
        let info = colors(&look(1, 1, |_, _| [0, 0, 255]));
        assert_eq!(info.dominant_colors, [ColorName::Blue]);
        assert_eq!(info.accent_color, "0000FF");
    }
}
