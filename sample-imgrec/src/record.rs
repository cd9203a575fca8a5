//! What is kept about a picture that went through.

use serde::{Deserialize, Serialize};

use crate::analyze::{Analysis, ColorName};
use crate::folder::PictureId;
use crate::picture::Format;

/// One picture of the gallery.
///
/// It follows from content and file name alone: written again after a crash or in a later run it is the same, byte by
/// byte, so there is no time in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PictureRecord {
    /// The identity of the content.
    pub id: PictureId,
    /// The name the file came with, without its folder.
    pub file_name: String,
    /// Bytes of the original.
    pub size: u64,
    /// By content.
    pub format: Format,
    /// Pixels across, upright.
    pub width: u32,
    /// Pixels down, upright.
    pub height: u32,
    /// Commonest first.
    pub colors: Vec<ColorName>,
    /// Smallest first.
    pub thumbnails: Vec<Thumbnail>,
    /// All that the analyzer found.
    pub analysis: Analysis,
}

/// A thumbnail in the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Relative to the data folder, with `/` on every system.
    pub path: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Bytes of the file.
    pub bytes: u64,
}

impl PictureRecord {
    /// Puts together what the steps found. The thumbnails may come in any order.
    pub fn new(
        id: PictureId,
        file_name: impl Into<String>,
        size: u64,
        mut thumbnails: Vec<Thumbnail>,
        analysis: Analysis,
    ) -> Self {
        thumbnails.sort_by_key(|thumbnail| thumbnail.width.max(thumbnail.height));
        Self {
            id,
            file_name: file_name.into(),
            size,
            format: analysis.metadata.format,
            width: analysis.metadata.width,
            height: analysis.metadata.height,
            colors: analysis.color.dominant_colors.clone(),
            thumbnails,
            analysis,
        }
    }
}
