//! The data folder: originals, thumbnails and records as files.
//!
//! ```text
//! originals/<id>                   the file as it came in
//! thumbnails/<id>/<size>.<ext>     re-encoded, upright, without EXIF
//! records/<id>.json                what is known about it
//! imgrec.log                       a line for each picture that came in
//! imgrec.sqlite                    how far the work is: the task hub of the workflow engine
//! ```
//!
//! An id is the SHA-256 of the content, so what is written twice is written alike, by any number of processes.
//! A file is there as a whole or not at all, also after a power cut: it is written under a temporary name in the same
//! folder, synced, renamed, and the folder is synced. The writer holds a lock on its temporary file while it lives, so
//! [`DataFolder::sweep_temporary`] can tell a leftover from work in progress.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::picture::limits::{FILE_BYTES_MAX, check_size};
use crate::picture::{Encoded, PictureError};
use crate::record::{PictureRecord, Thumbnail};

/// Bytes up to which a file that is too large is still read to its end, so that its refusal has an identity.
pub const HASHED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// How every temporary file begins. No id does.
const TEMPORARY_PREFIX: &str = ".writing-";

/// The identity of a picture: the SHA-256 of its file, 64 lower-case hexadecimal digits.
///
/// Only such a text becomes one, so it is safe in a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PictureId(String);

impl PictureId {
    /// The identity of this content.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(Sha256::digest(bytes).as_slice())
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_digest(digest: &[u8]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for PictureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PictureId> for String {
    fn from(id: PictureId) -> Self {
        id.0
    }
}

/// A text that is no picture id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a picture id has 64 lower-case hexadecimal digits")]
pub struct NotAnId;

impl TryFrom<String> for PictureId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Self(text)) } else { Err(NotAnId) }
    }
}

impl std::str::FromStr for PictureId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.to_owned().try_into()
    }
}

/// What a file is, seen from outside.
#[derive(Debug)]
pub enum Identified {
    /// Its size is acceptable.
    Fit {
        /// Its identity.
        id: PictureId,
        /// Its bytes.
        size: u64,
    },
    /// Its size alone refuses it.
    Refused {
        /// Its identity, unless it has more than [`HASHED_BYTES_MAX`].
        id: Option<PictureId>,
        /// A rejection, see [`PictureError::is_rejection`].
        why: PictureError,
    },
}

/// The data folder. Cloning it is cheap, and any number of threads and processes may use one folder.
#[derive(Debug, Clone)]
pub struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    /// Opens a folder, making what is missing of it.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, PictureError> {
        let folder = Self { root: root.into() };
        for part in [folder.originals(), folder.thumbnails(), folder.records()] {
            make_folder(&part)?;
        }
        Ok(folder)
    }

    /// The folder as it was named.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the original of a picture is, if it is there.
    pub fn original_path(&self, id: &PictureId) -> PathBuf {
        self.originals().join(id.as_str())
    }

    /// Where the record of a picture is, if it is there.
    pub fn record_path(&self, id: &PictureId) -> PathBuf {
        self.records().join(format!("{id}.json"))
    }

    /// Finds out the identity of a file, in one pass over it and little memory.
    ///
    /// # Errors
    /// [`PictureError::Source`] if it cannot be read.
    pub fn identify(source: &Path) -> Result<Identified, PictureError> {
        read_through(&mut open_source(source)?, source, |_, _| Ok(()))
    }

    /// Copies a file into the folder. It must still have the identity that was found out before; an original of
    /// that identity is left alone.
    ///
    /// # Errors
    /// [`PictureError::Source`] if the file cannot be read or has changed, [`PictureError::Folder`] if the copy cannot
    /// be written.
    pub fn ingest(&self, source: &Path, id: &PictureId) -> Result<(), PictureError> {
        if self.has_original(id) {
            return Ok(());
        }
        self.ingest_stream(&mut open_source(source)?, source, id)
    }

    /// Puts bytes of this identity into the folder as an original.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn ingest_bytes(&self, mut bytes: &[u8], id: &PictureId) -> Result<(), PictureError> {
        if self.has_original(id) {
            return Ok(());
        }
        self.ingest_stream(&mut bytes, Path::new("the given bytes"), id)
    }

    fn ingest_stream(
        &self,
        stream: &mut dyn Read,
        source: &Path,
        id: &PictureId,
    ) -> Result<(), PictureError> {
        let mut copy = Temporary::create(&self.originals())?;
        let read = read_through(stream, source, |piece, size| {
            if size > FILE_BYTES_MAX { Ok(()) } else { copy.write(piece) }
        })?;
        match read {
            Identified::Fit { id: found, .. } if found == *id => {
                copy.keep_as(&self.original_path(id))
            }
            Identified::Fit { .. } | Identified::Refused { .. } => Err(PictureError::source(
                source,
                io::Error::other("it changed while it was read; process it again"),
            )),
        }
    }

    /// Whether there is an original of this identity.
    pub fn has_original(&self, id: &PictureId) -> bool {
        self.original_path(id).is_file()
    }

    /// The originals that no record belongs to: in work, given up, or never begun.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn unrecorded(&self) -> Result<Vec<PictureId>, PictureError> {
        let names = list(&self.originals())?;
        let ids = names.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
        Ok(ids.filter(|id| !self.record_path(id).is_file()).collect())
    }

    /// Reads an original.
    ///
    /// # Errors
    /// [`PictureError::Folder`], also if it is not there.
    pub fn original(&self, id: &PictureId) -> Result<Vec<u8>, PictureError> {
        let path = self.original_path(id);
        fs::read(&path).map_err(|error| PictureError::folder("read", &path, error))
    }

    /// Writes a thumbnail. Its longest side names the file.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn write_thumbnail(
        &self,
        id: &PictureId,
        picture: &Encoded,
    ) -> Result<Thumbnail, PictureError> {
        let folder = self.thumbnails().join(id.as_str());
        make_folder(&folder)?;
        let Encoded { bytes, extension, width, height } = picture;
        let name = format!("{}.{extension}", width.max(height));
        write_whole(&folder.join(&name), bytes)?;
        Ok(Thumbnail {
            path: format!("thumbnails/{id}/{name}"),
            width: *width,
            height: *height,
            bytes: bytes.len() as u64,
        })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn write_record(&self, record: &PictureRecord) -> Result<(), PictureError> {
        let path = self.record_path(&record.id);
        let mut json = serde_json::to_vec_pretty(record)
            .map_err(|error| PictureError::folder("write", &path, error.into()))?;
        json.push(b'\n');
        write_whole(&path, &json)
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// [`PictureError::Folder`], or [`PictureError::Stored`] if the file is no record.
    pub fn record(&self, id: &PictureId) -> Result<Option<PictureRecord>, PictureError> {
        let path = self.record_path(id);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|error| PictureError::Stored { path, detail: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PictureError::folder("read", &path, error)),
        }
    }

    /// Reads a record whose files are all there; `None` if something is missing.
    ///
    /// # Errors
    /// Those of [`DataFolder::record`].
    pub fn whole_record(&self, id: &PictureId) -> Result<Option<PictureRecord>, PictureError> {
        let is_whole = |record: &PictureRecord| {
            let mut thumbnails = record.thumbnails.iter();
            self.has_original(id)
                && thumbnails.all(|thumbnail| self.root.join(&thumbnail.path).is_file())
        };
        Ok(self.record(id)?.filter(is_whole))
    }

    /// Adds a line to the log, with the time in front and `details` behind, unless a line with this text was added
    /// not long ago.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn log_once(&self, text: &str, details: &str) -> Result<(), PictureError> {
        let path = self.root.join("imgrec.log");
        add_line_once(&path, text, details)
            .map_err(|error| PictureError::folder("write", &path, error))
    }

    /// Removes everything of a picture, the record first: what is listed is there.
    ///
    /// Nothing there to remove is fine.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn remove(&self, id: &PictureId) -> Result<(), PictureError> {
        let record = self.record_path(id);
        let thumbnails = self.thumbnails().join(id.as_str());
        let original = self.original_path(id);
        gone("remove", &record, fs::remove_file(&record))?;
        sync_folder(&self.records())?;
        gone("remove", &thumbnails, fs::remove_dir_all(&thumbnails))?;
        sync_folder(&self.thumbnails())?;
        gone("remove", &original, fs::remove_file(&original))?;
        sync_folder(&self.originals())
    }

    /// Removes the temporary files of writers that are no longer alive; says how many there were.
    ///
    /// # Errors
    /// [`PictureError::Folder`].
    pub fn sweep_temporary(&self) -> Result<usize, PictureError> {
        let mut swept = sweep(&self.originals())? + sweep(&self.records())?;
        let thumbnails = self.thumbnails();
        for entry in list(&thumbnails)? {
            if entry.is_dir() {
                swept += sweep(&entry)?;
            }
        }
        Ok(swept)
    }

    fn originals(&self) -> PathBuf {
        self.root.join("originals")
    }

    fn thumbnails(&self) -> PathBuf {
        self.root.join("thumbnails")
    }

    fn records(&self) -> PathBuf {
        self.root.join("records")
    }
}

/// What is repeated after a crash was written shortly before it, so only this much of a log's end is looked at.
const LOG_END_BYTES: u64 = 64 * 1024;

fn add_line_once(path: &Path, text: &str, details: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    match file.lock() {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END_BYTES)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    if end.lines().any(|line| line.contains(text)) {
        return Ok(());
    }
    // A line that a crash cut short stays alone.
    let begin = if end.is_empty() || end.ends_with('\n') { "" } else { "\n" };
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    file.write_all(format!("{begin}{now} {text} {details}\n").as_bytes())?;
    file.sync_data()
}

fn open_source(source: &Path) -> Result<File, PictureError> {
    let unreadable = |error| PictureError::source(source, error);
    let metadata = fs::metadata(source).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        // Opening a pipe or a device may wait for ever.
        let what = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        return Err(unreadable(what));
    }
    File::open(source).map_err(unreadable)
}

/// Reads to the end. Hands on each piece, with the bytes that were read up to its end.
fn read_through(
    stream: &mut dyn Read,
    source: &Path,
    mut take: impl FnMut(&[u8], u64) -> Result<(), PictureError>,
) -> Result<Identified, PictureError> {
    let mut hasher = Sha256::new();
    let mut size = 0_u64;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PictureError::source(source, error)),
        };
        size += length as u64;
        if size > HASHED_BYTES_MAX {
            let why = check_size(size).err().unwrap_or(PictureError::Empty);
            return Ok(Identified::Refused { id: None, why });
        }
        hasher.update(&piece[..length]);
        take(&piece[..length], size)?;
    }
    let id = PictureId::from_digest(hasher.finalize().as_slice());
    Ok(match check_size(size) {
        Ok(()) => Identified::Fit { id, size },
        Err(why) => Identified::Refused { id: Some(id), why },
    })
}

/// Writes a file as a whole or not at all. If it is there with this content already, it is left alone.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PictureError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if fs::read(path).is_ok_and(|present| present == bytes) {
        // Whoever wrote it may have died before this.
        return sync_folder(folder);
    }
    let mut file = Temporary::create(folder)?;
    file.write(bytes)?;
    file.keep_as(path)
}

/// A file that is being written. Dropped before [`Temporary::keep_as`] it is gone.
struct Temporary {
    file: File,
    path: PathBuf,
    is_kept: bool,
}

impl Temporary {
    fn create(folder: &Path) -> Result<Self, PictureError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{TEMPORARY_PREFIX}{}-{count}", process::id()));
            let failed = |error| PictureError::folder("write", &path, error);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                // Left by a dead process that had the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed(error)),
            };
            match file.lock() {
                Ok(()) => {}
                // A file system without locks: then nothing is ever swept on it.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) => return Err(failed(error)),
            }
            let temporary = Self { file, path, is_kept: false };
            // A sweep may have come between creation and lock and taken the file for a leftover.
            if temporary.path.exists() {
                return Ok(temporary);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PictureError> {
        self.file.write_all(bytes).map_err(|error| PictureError::folder("write", &self.path, error))
    }

    fn keep_as(mut self, path: &Path) -> Result<(), PictureError> {
        let failed = |error| PictureError::folder("write", path, error);
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.path, path).map_err(failed)?;
        self.is_kept = true;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept {
            // If this fails, the next sweep takes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sweep(folder: &Path) -> Result<usize, PictureError> {
    let mut swept = 0;
    for path in list(folder)? {
        let is_temporary = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY_PREFIX));
        if !is_temporary {
            continue;
        }
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            // Renamed or removed by its writer just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(PictureError::folder("remove", &path, error)),
        };
        match file.try_lock() {
            Ok(()) => {
                gone("remove", &path, fs::remove_file(&path))?;
                swept += 1;
            }
            // Its writer lives, or the file system has no locks.
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(swept)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, PictureError> {
    let failed = |error| PictureError::folder("read", folder, error);
    fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

fn make_folder(folder: &Path) -> Result<(), PictureError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    if !parent.as_os_str().is_empty() {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(parent),
        // Another writer was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {
            sync_folder(parent)
        }
        Err(error) => Err(PictureError::folder("create", folder, error)),
    }
}

fn gone(action: &'static str, path: &Path, removed: io::Result<()>) -> Result<(), PictureError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PictureError::folder(action, path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the names in a folder as durable as the files behind them.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), PictureError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)
        .and_then(|handle| handle.sync_all())
        .map_err(|error| PictureError::folder("write", folder, error))
}

/// Elsewhere a folder cannot be opened as a file, and the file system keeps the names by itself.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
fn sync_folder(_folder: &Path) -> Result<(), PictureError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, DataFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(place.path().join("data")).unwrap();
        (place, folder)
    }

    fn files_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = list(folder)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_id_is_64_hexadecimal_digits_and_nothing_else() {
        let id = PictureId::of(b"");
        assert_eq!(id.as_str(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(id.as_str().parse(), Ok(id));
        for text in [
            "",
            "../../etc/passwd",
            &"A".repeat(64),
            &"a".repeat(63),
            &format!("{}/", "a".repeat(63)),
        ] {
            assert_eq!(text.parse::<PictureId>(), Err(NotAnId), "{text}");
        }
        assert!(serde_json::from_str::<PictureId>("\"../x\"").is_err());
    }

    #[test]
    fn taking_in_twice_is_taking_in_once() {
        let (place, folder) = folder();
        let source = place.path().join("a.png");
        fs::write(&source, b"content").unwrap();
        for _ in 0..2 {
            let Identified::Fit { id, size } = DataFolder::identify(&source).unwrap() else {
                panic!("refused")
            };
            assert_eq!((id.clone(), size), (PictureId::of(b"content"), 7));
            folder.ingest(&source, &id).unwrap();
            assert_eq!(folder.original(&id).unwrap(), b"content");
        }
        assert_eq!(files_in(&folder.originals()), [PictureId::of(b"content").as_str()]);
        assert_eq!(folder.unrecorded().unwrap(), [PictureId::of(b"content")]);
    }

    #[test]
    fn a_file_that_changed_meanwhile_leaves_nothing() {
        let (place, folder) = folder();
        let source = place.path().join("a.png");
        for content in [&b"another"[..], b""] {
            fs::write(&source, content).unwrap();
            let error = folder.ingest(&source, &PictureId::of(b"content")).unwrap_err();
            assert!(error.to_string().contains("changed"), "{error}");
            assert!(files_in(&folder.originals()).is_empty());
        }
    }

    #[test]
    fn what_is_refused_for_its_size_has_an_identity() {
        let (place, folder) = folder();
        let source = place.path().join("big");
        let bytes = vec![7; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
        fs::write(&source, &bytes).unwrap();
        let Identified::Refused { id, why } = DataFolder::identify(&source).unwrap() else {
            panic!("fit")
        };
        assert_eq!(id, Some(PictureId::of(&bytes)));
        assert!(why.is_rejection() && why.to_string().contains("20 MiB"), "{why}");
        fs::write(&source, b"").unwrap();
        assert!(matches!(
            DataFolder::identify(&source).unwrap(),
            Identified::Refused { id: Some(_), why: PictureError::Empty }
        ));
        assert!(folder.ingest_bytes(&bytes, &PictureId::of(&bytes)).is_err());
        assert!(files_in(&folder.originals()).is_empty());
    }

    #[test]
    fn a_log_line_is_added_once_and_never_to_half_a_line() {
        let (_place, folder) = folder();
        let log = folder.root().join("imgrec.log");
        folder.log_once("done a run 1", "x").unwrap();
        folder.log_once("done a run 1", "x").unwrap();
        let half = fs::read_to_string(&log).unwrap() + "2026-01-01T00:00:00.000Z done b ru";
        fs::write(&log, half).unwrap();
        std::thread::scope(|scope| {
            for name in ["b", "c", "d", "b", "c", "d"] {
                let folder = &folder;
                scope.spawn(move || folder.log_once(&format!("done {name} run 1"), "x").unwrap());
            }
        });
        let text = fs::read_to_string(&log).unwrap();
        let mut lines: Vec<_> = text.lines().map(|line| &line[25..]).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["done a run 1 x", "done b ru", "done b run 1 x", "done c run 1 x", "done d run 1 x"]
        );
    }

    #[test]
    fn a_missing_file_and_a_folder_say_what_they_are() {
        let place = tempfile::tempdir().unwrap();
        let missing = DataFolder::identify(&place.path().join("nothing.png")).unwrap_err();
        assert!(missing.to_string().contains("no such file"), "{missing}");
        assert!(!missing.is_retryable() && !missing.is_rejection());
        let is_folder = DataFolder::identify(place.path()).unwrap_err();
        assert!(is_folder.to_string().contains("it is a folder"), "{is_folder}");
    }

    #[test]
    fn leftovers_are_swept_and_living_writers_are_not_disturbed() {
        let (_place, folder) = folder();
        let mut living = Temporary::create(&folder.originals()).unwrap();
        fs::write(folder.originals().join(".writing-1-1"), b"half").unwrap();
        fs::create_dir(folder.thumbnails().join("x")).unwrap();
        fs::write(folder.thumbnails().join("x/.writing-1-2"), b"half").unwrap();
        assert_eq!(folder.sweep_temporary().unwrap(), 2);
        living.write(b"whole").unwrap();
        living.keep_as(&folder.originals().join("name")).unwrap();
        assert_eq!(files_in(&folder.originals()), ["name"]);
        assert_eq!(folder.sweep_temporary().unwrap(), 0);
    }

    #[test]
    fn a_writer_that_gives_up_leaves_nothing() {
        let (_place, folder) = folder();
        drop(Temporary::create(&folder.records()).unwrap());
        assert!(files_in(&folder.records()).is_empty());
    }

    #[test]
    fn many_writers_of_one_content_agree() {
        let (_place, folder) = folder();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        folder.ingest_bytes(b"the same", &PictureId::of(b"the same")).unwrap();
                        folder.sweep_temporary().unwrap();
                    }
                });
            }
        });
        assert_eq!(files_in(&folder.originals()), [PictureId::of(b"the same").as_str()]);
    }

    #[test]
    fn removing_takes_all_and_may_be_repeated() {
        let (_place, folder) = folder();
        let id = PictureId::of(b"content");
        folder.ingest_bytes(b"content", &id).unwrap();
        let picture =
            Encoded { bytes: b"jpeg".to_vec(), extension: "jpg", width: 320, height: 200 };
        let thumbnail = folder.write_thumbnail(&id, &picture).unwrap();
        assert_eq!(thumbnail.path, format!("thumbnails/{id}/320.jpg"));
        assert_eq!(fs::read(folder.root().join(&thumbnail.path)).unwrap(), b"jpeg");
        fs::write(folder.record_path(&id), b"not json").unwrap();
        assert!(matches!(folder.record(&id), Err(PictureError::Stored { .. })));
        for _ in 0..2 {
            folder.remove(&id).unwrap();
        }
        assert!(folder.record(&id).unwrap().is_none());
        for part in [folder.originals(), folder.thumbnails(), folder.records()] {
            assert!(files_in(&part).is_empty());
        }
    }
}
