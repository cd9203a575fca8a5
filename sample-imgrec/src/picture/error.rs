//! Why a picture did not get through.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Format;
use super::limits::{FILE_BYTES_MAX, MEMORY_BYTES_MAX, PIXELS_MAX, SIDE_MAX};

/// Why a picture did not get through.
///
/// The message of every variant is a sentence for the person who chose the file. What the caller may do
/// about it, [`PictureError::is_rejection`] and [`PictureError::is_retryable`] say.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The content is none of the accepted formats, or a kind of them that nothing here decodes.
    #[error("{found}; accepted are JPEG, PNG, WebP and GIF pictures")]
    Unsupported {
        /// What the content looks like, as the beginning of a sentence.
        found: String,
    },
    /// The content starts as an accepted format and then breaks its rules or ends early.
    #[error("the {format} file is damaged: {detail}")]
    Corrupt {
        /// What the file starts as.
        format: Format,
        /// What is wrong with it.
        detail: String,
    },
    /// A limit of [`super::limits`] is exceeded.
    #[error("the picture is too large: {0}")]
    TooLarge(Excess),
    /// Decoding was given up at its time limit.
    ///
    /// No rejection: on a busy machine a harmless picture can be slow, so it is worth another attempt.
    #[error("decoding took longer than {} s and was stopped", limit.as_secs_f32())]
    TooSlow {
        /// The limit that ran out.
        limit: Duration,
    },
    /// The file that was named cannot be read. Nothing is known about its content.
    #[error("cannot read {}: {}", path.display(), describe(source))]
    Source {
        /// The file as it was named.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The data folder did not let itself be read or written.
    #[error("cannot {action} {}: {}", path.display(), describe(source))]
    Folder {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of the data folder is not what this program writes there.
    #[error("{} does not hold what was written there: {detail}; delete it and process the picture again", path.display())]
    Stored {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Writing a thumbnail failed in the encoder.
    #[error("cannot encode a thumbnail: {0}")]
    Encode(String),
}

/// Which limit a picture exceeds, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// More bytes than [`FILE_BYTES_MAX`].
    #[error("the file has {size} bytes, at most {FILE_BYTES_MAX} (20 MiB) are accepted")]
    Bytes {
        /// Bytes of the file, or more than which it has if it was not read to its end.
        size: u64,
    },
    /// A side longer than [`SIDE_MAX`].
    #[error("{width} x {height} px, a side may have at most {SIDE_MAX} px")]
    Side {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// More pixels than [`PIXELS_MAX`].
    #[error("{width} x {height} px, at most {} million pixels are accepted", PIXELS_MAX / 1_000_000)]
    Pixels {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// The decoder wanted more memory than [`MEMORY_BYTES_MAX`].
    #[error("decoding needs more than {} MiB of memory", MEMORY_BYTES_MAX / (1024 * 1024))]
    Memory,
}

impl PictureError {
    /// Whether the content itself is the reason: the same bytes can never get through.
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Empty | Self::Unsupported { .. } | Self::Corrupt { .. } | Self::TooLarge(_) => {
                true
            }
            Self::TooSlow { .. }
            | Self::Source { .. }
            | Self::Folder { .. }
            | Self::Stored { .. }
            | Self::Encode(_) => false,
        }
    }

    /// Whether the same call may succeed later without anybody doing something about it first.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Empty
            | Self::Unsupported { .. }
            | Self::Corrupt { .. }
            | Self::TooLarge(_)
            | Self::Stored { .. }
            | Self::Encode(_) => false,
            Self::TooSlow { .. } | Self::Folder { .. } => true,
            Self::Source { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidFilename
            ),
        }
    }

    /// An unreadable source file.
    pub fn source(path: &Path, source: io::Error) -> Self {
        Self::Source { path: path.to_owned(), source }
    }

    /// Trouble with the data folder.
    pub fn folder(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Folder { action, path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(format: Format, detail: impl Into<String>) -> Self {
        Self::Corrupt { format, detail: detail.into() }
    }
}

/// The usual mistakes in plain words, the rest as the operating system says it.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder; name the pictures in it".to_owned(),
        io::ErrorKind::StorageFull => {
            "the disk is full; free some space and run it again".to_owned()
        }
        _ => error.to_string(),
    }
}
