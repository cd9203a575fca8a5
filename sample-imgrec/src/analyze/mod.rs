//! What pixels and headers say about a picture, and nothing more.
//!
//! The result has the JSON shape of Computer Vision v3.2 (`color`, `imageType`, `metadata`, `tags`, `description`),
//! so a remote analyzer can stand in its place. What would need a trained model is not made up: captions stay empty,
//! and [`ABSENT`] lists the rest.

pub mod colors;
pub mod heuristics;
pub mod phash;
pub mod quality;

use serde::{Deserialize, Serialize};

use crate::picture::decode::{Pixels, guarded};
use crate::picture::exif::{self, ExifSummary};
use crate::picture::header::exif_block;
use crate::picture::thumbnail::{fit, resize};
use crate::picture::{Deadline, Decoded, Format, PictureError, decode};

pub use colors::{ColorInfo, ColorName};
pub use heuristics::ImageType;
pub use phash::PerceptualHash;
pub use quality::Quality;

/// The name of this analyzer in its results. A change of what it computes gets a new one.
pub const MODEL_VERSION: &str = "local-1";

/// Capabilities of the service in whose shape the answer is given that this analyzer does not have.
pub const ABSENT: [&str; 7] =
    ["adult", "brands", "captions", "categories", "faces", "objects", "ocr"];

/// Longest side, in pixels, of the copy that is looked at for sharpness, brightness and kind.
///
/// One size for all pictures, so that the numbers can be compared.
const LOOK_SIDE: u32 = 512;

/// Longest side of the copy that ThumbHash is made of; more than 100 it does not take.
const THUMB_HASH_SIDE: u32 = 100;

/// What the caller wants to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalyzeOptions {
    /// Also tell where the picture was taken, if the file says it.
    pub gps: bool,
}

/// The analysis of one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// Colours by name.
    pub color: ColorInfo,
    /// Clip art or drawing.
    pub image_type: ImageType,
    /// Size and format.
    pub metadata: Metadata,
    /// Only what follows from facts, each with full confidence.
    pub tags: Vec<Tag>,
    /// The same tags by name; captions stay empty.
    pub description: Description,
    /// [`MODEL_VERSION`].
    pub model_version: String,
    /// The facts in one line, such as `Landscape JPEG, 0.9 MP, mostly black, 2012-09-17`.
    pub summary: String,
    /// Pictures in the file; more than one is an animation, of which the first frame was analyzed.
    pub frames: u32,
    /// Whether some pixel is not fully opaque.
    pub transparent: bool,
    /// Sharpness and brightness.
    pub quality: Quality,
    /// For finding near duplicates.
    pub perceptual_hash: PerceptualHash,
    /// A ThumbHash placeholder, in hexadecimal.
    pub thumb_hash: String,
    /// EXIF, if the file has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exif: Option<ExifSummary>,
    /// [`ABSENT`].
    pub absent: Vec<String>,
}

/// Size and format, upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// The format of the file.
    pub format: Format,
}

/// A word that is true of the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// The word.
    pub name: String,
    /// From 0 to 1.
    pub confidence: f64,
}

/// Words and sentences.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Words.
    pub tags: Vec<String>,
    /// Sentences; this analyzer makes none.
    pub captions: Vec<Caption>,
}

/// A sentence about the picture, as a remote analyzer may give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Caption {
    /// The sentence.
    pub text: String,
    /// From 0 to 1.
    pub confidence: f64,
}

/// Decodes a file and analyzes it, for steps that share nothing but the file.
///
/// The same bytes and options give the same answer, byte by byte when written as JSON.
///
/// # Errors
/// Those of [`decode()`] and [`analyze`].
pub fn analyze_bytes(
    bytes: &[u8],
    options: AnalyzeOptions,
    deadline: Deadline,
) -> Result<Analysis, PictureError> {
    let decoded = decode(bytes, deadline)?;
    let format = decoded.header.format;
    guarded(format, || {
        let exif = exif_block(bytes).and_then(|block| exif::summary(block, options.gps));
        analyze(&decoded, exif, deadline)
    })
}

/// Analyzes decoded pixels.
///
/// # Errors
/// [`PictureError::TooSlow`], or [`PictureError::Encode`], which no picture is known to cause.
pub fn analyze(
    decoded: &Decoded,
    exif: Option<ExifSummary>,
    deadline: Deadline,
) -> Result<Analysis, PictureError> {
    let header = &decoded.header;
    let look = shrink(&decoded.pixels, LOOK_SIDE)?;
    deadline.check()?;
    let thumb_hash = thumb_hash(&look)?;
    let look = Look::new(look);
    let color = colors::colors(&look);
    deadline.check()?;
    let image_type = heuristics::image_type(&decoded.pixels, &look);
    let transparent = matches!(decoded.pixels, Pixels::Transparent(_));
    let metadata = Metadata { width: header.width, height: header.height, format: header.format };
    let tags = tags(&metadata, &color, header.frames, transparent);
    Ok(Analysis {
        summary: summary(&metadata, &color, exif.as_ref()),
        image_type,
        description: Description {
            tags: tags.iter().map(|tag| tag.name.clone()).collect(),
            captions: Vec::new(),
        },
        tags,
        color,
        metadata,
        model_version: MODEL_VERSION.to_owned(),
        frames: header.frames,
        transparent,
        quality: quality::quality(&look),
        perceptual_hash: phash::perceptual_hash(&look)?,
        thumb_hash,
        exif,
        absent: ABSENT.map(str::to_owned).to_vec(),
    })
}

/// The copy that is looked at: small, and laid over white where it is transparent, as a page shows it.
pub(crate) struct Look {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Row by row.
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Look {
    fn new(pixels: Pixels) -> Self {
        let (width, height) = pixels.size();
        let pixels = match pixels {
            Pixels::Opaque(pixels) => pixels.pixels().map(|pixel| pixel.0).collect(),
            Pixels::Transparent(pixels) => {
                pixels.pixels().map(|pixel| over_white(pixel.0)).collect()
            }
        };
        Self { width: width as usize, height: height as usize, pixels }
    }

    /// Luma of each pixel by ITU-R BT.601, 0 to 255.
    pub(crate) fn luma(&self) -> impl Iterator<Item = f32> + '_ {
        self.pixels.iter().map(|&pixel| luma(pixel))
    }
}

pub(crate) fn luma([r, g, b]: [u8; 3]) -> f32 {
    0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
}

fn over_white([r, g, b, a]: [u8; 4]) -> [u8; 3] {
    [r, g, b].map(|channel| {
        let mixed = u32::from(channel) * u32::from(a) + 255 * (255 - u32::from(a));
        u8::try_from((mixed + 127) / 255).unwrap_or(u8::MAX)
    })
}

/// Rounds so that the JSON is short and does not pretend to precision.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

fn shrink(pixels: &Pixels, side: u32) -> Result<Pixels, PictureError> {
    let (width, height) = fit(pixels.size(), side);
    resize(pixels, width, height)
}

fn thumb_hash(look: &Pixels) -> Result<String, PictureError> {
    let small = shrink(look, THUMB_HASH_SIDE)?;
    let (width, height) = small.size();
    let rgba = match small {
        Pixels::Opaque(pixels) => image::DynamicImage::ImageRgb8(pixels).into_rgba8(),
        Pixels::Transparent(pixels) => pixels,
    };
    let hash = thumbhash::rgba_to_thumb_hash(width as usize, height as usize, rgba.as_raw());
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn tags(metadata: &Metadata, color: &ColorInfo, frames: u32, transparent: bool) -> Vec<Tag> {
    let shape = match metadata.width.cmp(&metadata.height) {
        std::cmp::Ordering::Greater => "horizontal",
        std::cmp::Ordering::Less => "vertical",
        std::cmp::Ordering::Equal => "square",
    };
    [
        (shape, true),
        ("animated", frames > 1),
        ("black and white", color.is_bw_img),
        ("transparent", transparent),
    ]
    .into_iter()
    .filter(|(_, holds)| *holds)
    .map(|(name, _)| Tag { name: name.to_owned(), confidence: 1.0 })
    .collect()
}

fn summary(metadata: &Metadata, color: &ColorInfo, exif: Option<&ExifSummary>) -> String {
    let Metadata { width, height, format } = *metadata;
    let shape = match width.cmp(&height) {
        std::cmp::Ordering::Greater => "Landscape",
        std::cmp::Ordering::Less => "Portrait",
        std::cmp::Ordering::Equal => "Square",
    };
    // In tenths of a million, half rounded up. A picture too small for one says its sides.
    let tenths = (u64::from(width) * u64::from(height) + 50_000) / 100_000;
    let size = match tenths {
        0 => format!("{width} x {height} px"),
        1..100 => format!("{}.{} MP", tenths / 10, tenths % 10),
        _ => format!("{} MP", (tenths + 5) / 10),
    };
    let names: Vec<_> =
        color.dominant_colors.iter().take(2).map(|name| name.to_string().to_lowercase()).collect();
    let mut parts = vec![format!("{shape} {format}"), size];
    if !names.is_empty() {
        parts.push(format!("mostly {}", names.join(" and ")));
    }
    if let Some(date) =
        exif.and_then(|exif| exif.date_time.as_deref()).and_then(|text| text.get(..10))
    {
        parts.push(date.to_owned());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analyzed(bytes: &[u8]) -> Analysis {
        analyze_bytes(bytes, AnalyzeOptions::default(), Deadline::none()).unwrap()
    }

    #[test]
    fn the_hubble_picture_in_facts() {
        let analysis = analyzed(include_bytes!("../../testdata/hubble_deep_field.jpg"));
        assert_eq!(analysis.summary, "Landscape JPEG, 0.9 MP, mostly black, 2012-09-17");
        assert!(analysis.description.captions.is_empty());
        assert_eq!(analysis.description.tags, ["horizontal"]);
        assert_eq!(analysis.image_type, ImageType::default());
    }

    #[test]
    fn the_moon_is_black_and_white_and_the_cat_is_not() {
        let moon = analyzed(include_bytes!("../../testdata/moon.png"));
        assert!(moon.color.is_bw_img);
        assert_eq!(moon.description.tags, ["square", "black and white"]);
        let cat = analyzed(include_bytes!("../../testdata/chelsea.png"));
        assert!(!cat.color.is_bw_img);
        assert!(cat.color.dominant_colors.contains(&ColorName::Brown), "{:?}", cat.color);
        assert_eq!(cat.image_type, ImageType::default());
    }

    #[test]
    fn the_same_bytes_give_the_same_json_and_json_comes_back() {
        let bytes = include_bytes!("../../testdata/rocket.jpg");
        let first = serde_json::to_string(&analyzed(bytes)).unwrap();
        assert_eq!(first, serde_json::to_string(&analyzed(bytes)).unwrap());
        assert_eq!(serde_json::from_str::<Analysis>(&first).unwrap(), analyzed(bytes));
    }
}
