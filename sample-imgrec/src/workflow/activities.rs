//! The steps of the work. Each takes the original from the data folder, so each can run again on its own.

use durable_core::prelude::*;

use super::Upload;
use crate::analyze::{Analysis, AnalyzeOptions, analyze_bytes};
use crate::folder::{DataFolder, PictureId};
use crate::picture::{self, Deadline, PictureError, plan, thumbnail_from_bytes};
use crate::record::{PictureRecord, Thumbnail};

/// The kind of a failure whose reason is the content itself.
pub const REJECTED: &str = "Rejected";

/// Looks at headers and structure; says which thumbnails are to be made, by their longest sides.
#[activity(blocking)]
pub fn validate(State(folder): State<DataFolder>, id: PictureId) -> Result<Vec<u32>, Failed> {
    let header = picture::validate(&folder.original(&id)?)?;
    Ok(plan(header.width, header.height))
}

/// Makes one thumbnail.
#[activity(blocking)]
pub fn resize(
    ctx: ActivityContext,
    State(folder): State<DataFolder>,
    (id, size): (PictureId, u32),
) -> Result<Thumbnail, Failed> {
    let deadline = Deadline::standard();
    let thumbnail = thumbnail_from_bytes(&folder.original(&id)?, size, deadline)?;
    // An attempt that was given up must not write behind the back of the steps that follow.
    ctx.check_cancelled()?;
    Ok(folder.write_thumbnail(&id, &thumbnail)?)
}

/// Finds out what pixels and headers say.
#[activity(blocking)]
pub fn analyze(State(folder): State<DataFolder>, id: PictureId) -> Result<Analysis, Failed> {
    let original = folder.original(&id)?;
    Ok(analyze_bytes(&original, AnalyzeOptions::default(), Deadline::standard())?)
}

/// Writes the record, which puts the picture into the gallery.
#[activity(blocking)]
pub fn persist(State(folder): State<DataFolder>, record: PictureRecord) -> Result<(), Failed> {
    Ok(folder.write_record(&record)?)
}

/// Tells that a picture is there. For now in the log of the data folder.
#[activity(blocking)]
pub fn notify(
    ctx: ActivityContext,
    State(folder): State<DataFolder>,
    upload: Upload,
) -> Result<(), Failed> {
    let Upload { id, file_name, size } = upload;
    // The step may run again after a crash; its line is written once.
    let line = format!("done {id} run {}", ctx.run());
    Ok(folder.log_once(&line, &format!("{file_name:?}, {size} bytes"))?)
}

/// Removes all files of a picture.
#[activity(blocking)]
pub fn discard(State(folder): State<DataFolder>, id: PictureId) -> Result<(), Failed> {
    Ok(folder.remove(&id)?)
}

/// How the engine is told about a failed step: what no retry helps, and what it is the picture's own fault.
#[derive(Debug)]
pub struct Failed(ActivityError);

impl From<PictureError> for Failed {
    fn from(error: PictureError) -> Self {
        let kind = match &error {
            PictureError::Empty
            | PictureError::Unsupported { .. }
            | PictureError::Corrupt { .. }
            | PictureError::TooLarge(_) => REJECTED,
            PictureError::TooSlow { .. } => "TooSlow",
            PictureError::Source { .. } => "Source",
            PictureError::Folder { .. } => "Folder",
            PictureError::Stored { .. } => "Stored",
            PictureError::Encode(_) => "Encode",
        };
        let failure = ActivityError::new(kind, &error);
        Self(if error.is_retryable() { failure } else { failure.permanent() })
    }
}

impl From<ActivityError> for Failed {
    fn from(error: ActivityError) -> Self {
        Self(error)
    }
}

impl From<Failed> for ActivityError {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use crate::picture::Excess;

    use super::*;

    #[test]
    fn what_the_picture_is_is_a_rejection_and_what_passes_is_tried_again() {
        let folder = |kind: io::ErrorKind| {
            PictureError::folder("write", Path::new("data/records/x.json"), kind.into())
        };
        for (error, kind, permanent) in [
            (PictureError::Empty, REJECTED, true),
            (PictureError::TooLarge(Excess::Memory), REJECTED, true),
            (PictureError::TooSlow { limit: Duration::from_secs(10) }, "TooSlow", false),
            (folder(io::ErrorKind::StorageFull), "Folder", false),
            (PictureError::Encode("no".to_owned()), "Encode", true),
        ] {
            let message = error.to_string();
            assert_eq!(error.is_rejection(), kind == REJECTED);
            let failed = ActivityError::from(Failed::from(error));
            assert_eq!((failed.kind(), failed.is_permanent()), (kind, permanent));
            assert_eq!(failed.message(), message);
        }
    }
}
