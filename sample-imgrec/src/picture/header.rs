//! Dimensions, frames, EXIF and completeness from the structure of a file, without decoding a pixel.
//!
//! The decoders are lenient: a JPEG that ends early comes out with a grey lower half. This walk over segments, chunks
//! and blocks is not, so a picture cut short in an upload is refused instead of shown.

use serde::{Deserialize, Serialize};

use super::limits::{JPEG_SCANS_MAX, check_dimensions};
use super::{Format, Orientation, PictureError, exif, sniff};

/// What the structure of an acceptable file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// By content.
    pub format: Format,
    /// Pixels across, upright.
    pub width: u32,
    /// Pixels down, upright.
    pub height: u32,
    /// How the stored pixels have to be turned.
    pub orientation: Orientation,
    /// Pictures in the file. More than one is an animation, whose first frame stands for it.
    pub frames: u32,
}

impl Header {
    /// The size of the picture as it is stored, before it is turned upright.
    pub fn stored_size(&self) -> (u32, u32) {
        // Turning twice by the same rule gives the first order of the sides again.
        self.orientation.upright(self.width, self.height)
    }
}

/// Reads the header of a file and checks dimensions and structure.
///
/// # Errors
/// A rejection, see [`PictureError::is_rejection`].
pub fn read(bytes: &[u8]) -> Result<Header, PictureError> {
    let format = sniff::sniff(bytes)?;
    let walk = walk(format, bytes);
    if let Some((width, height)) = walk.size {
        // Before anything else that may be wrong: the clearer reason wins, and a large picture cut short is large.
        check_dimensions(width, height)?;
    }
    if let Some(refusal) = walk.refusal {
        return Err(refusal);
    }
    let (width, height) = match walk.size {
        Some((width, height)) if width > 0 && height > 0 => (width, height),
        Some((width, height)) => {
            return Err(PictureError::corrupt(
                format,
                format!("it says to be {width} x {height} px"),
            ));
        }
        None => {
            return Err(PictureError::corrupt(format, "it does not say how large the picture is"));
        }
    };
    if walk.frames == 0 {
        return Err(PictureError::corrupt(format, "there is no picture in it"));
    }
    let orientation = walk.exif.and_then(exif::orientation).unwrap_or_default();
    let (width, height) = orientation.upright(width, height);
    Ok(Header { format, width, height, orientation, frames: walk.frames })
}

/// The EXIF block of a file, starting with its TIFF header, if there is one.
pub fn exif_block(bytes: &[u8]) -> Option<&[u8]> {
    walk(sniff::sniff(bytes).ok()?, bytes).exif
}

/// What a walk met, as far as it got.
#[derive(Default)]
struct Walk<'a> {
    size: Option<(u32, u32)>,
    frames: u32,
    exif: Option<&'a [u8]>,
    refusal: Option<PictureError>,
}

/// The data ends in the middle of something.
struct CutShort;

fn walk(format: Format, bytes: &[u8]) -> Walk<'_> {
    let mut walk = Walk::default();
    let mut rest = Bytes { bytes, at: 0 };
    let end = match format {
        Format::Jpeg => walk.jpeg(&mut rest),
        Format::Png => walk.png(&mut rest),
        Format::WebP => walk.webp(&mut rest),
        Format::Gif => walk.gif(&mut rest),
    };
    if end.is_err() {
        let detail = format!("it ends early, after {} bytes", bytes.len());
        walk.refusal.get_or_insert(PictureError::corrupt(format, detail));
    }
    walk
}

impl<'a> Walk<'a> {
    fn refuse(&mut self, format: Format, detail: &str) {
        self.refusal.get_or_insert(PictureError::corrupt(format, detail));
    }

    /// ITU-T T.81, annex B.
    fn jpeg(&mut self, rest: &mut Bytes<'a>) -> Result<(), CutShort> {
        rest.take(2)?;
        let mut scans = 0;
        loop {
            let marker = rest.next_marker()?;
            match marker {
                // End of image. What cameras append after it is not the picture.
                0xd9 => return Ok(()),
                // TEM, restarts and start of image stand alone.
                0x01 | 0xd0..=0xd8 => {}
                // Frame headers, all codings but DHT, JPG and DAC, which share the range.
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                    let frame = rest.segment()?;
                    let [_, h1, h0, w1, w0, ..] = *frame else { return Err(CutShort) };
                    let size =
                        (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
                    if self.size.replace(size).is_some() {
                        // The limits were checked for one of them and the decoder may take the other.
                        self.refuse(Format::Jpeg, "it has two frame headers");
                    }
                    if !matches!(marker, 0xc0..=0xc2) {
                        self.refusal.get_or_insert(PictureError::Unsupported {
                            found: "this is a lossless or arithmetic coded JPEG".to_owned(),
                        });
                    }
                }
                0xda => {
                    rest.segment()?;
                    scans += 1;
                    self.frames = 1;
                    if scans > JPEG_SCANS_MAX {
                        self.refuse(Format::Jpeg, "it has more scans than any encoder writes");
                        return Ok(());
                    }
                }
                0xe1 => {
                    let segment = rest.segment()?;
                    if let Some(block) = segment.strip_prefix(b"Exif\0\0") {
                        self.exif.get_or_insert(block);
                    }
                }
                _ => {
                    rest.segment()?;
                }
            }
        }
    }

    /// PNG specification, third edition, section 5.
    fn png(&mut self, rest: &mut Bytes<'a>) -> Result<(), CutShort> {
        rest.take(8)?;
        let mut animation_frames = 0;
        loop {
            let length = rest.u32_be()?;
            let kind = rest.take(4)?;
            let data = rest.take(length as usize)?;
            match kind {
                b"IHDR" => {
                    let mut header = Bytes { bytes: data, at: 0 };
                    let size = (header.u32_be()?, header.u32_be()?);
                    if self.size.replace(size).is_some() {
                        self.refuse(Format::Png, "it has two headers");
                    }
                }
                b"IDAT" => self.frames = 1,
                b"fcTL" => animation_frames += 1,
                b"eXIf" => {
                    self.exif.get_or_insert(data);
                }
                _ => {}
            }
            // The checksum of the chunk, which the decoder verifies.
            rest.take(4)?;
            if self.size.is_none() {
                self.refuse(Format::Png, "its header is missing");
                return Ok(());
            }
            if kind == b"IEND" {
                if self.frames > 0 {
                    self.frames = self.frames.max(animation_frames);
                }
                return Ok(());
            }
        }
    }

    /// RFC 9649, section 2.
    fn webp(&mut self, rest: &mut Bytes<'a>) -> Result<(), CutShort> {
        rest.take(4)?;
        let length = rest.u32_le()?;
        let body = match rest.clone().take(length as usize) {
            Ok(body) => body,
            // The dimensions are still looked for, so that "too large" is said where it holds.
            Err(CutShort) => rest.remaining(),
        };
        let is_whole = body.len() == length as usize;
        let mut chunks = Bytes { bytes: body, at: 4 };
        while !chunks.remaining().is_empty() {
            let kind = chunks.take(4)?;
            let length = chunks.u32_le()? as usize;
            let head = chunks.remaining();
            if self.size.is_none() {
                self.size = webp_size(kind, head);
            }
            let data = chunks.take(length)?;
            match kind {
                b"VP8 " | b"VP8L" | b"ANMF" => self.frames = self.frames.saturating_add(1),
                b"EXIF" => {
                    self.exif.get_or_insert(data.strip_prefix(b"Exif\0\0").unwrap_or(data));
                }
                _ => {}
            }
            // Chunks start at even offsets. Some encoders leave the last padding byte out.
            if length % 2 == 1 && !chunks.remaining().is_empty() {
                chunks.take(1)?;
            }
        }
        if is_whole { Ok(()) } else { Err(CutShort) }
    }

    /// GIF89a specification, section 17 and following.
    fn gif(&mut self, rest: &mut Bytes<'a>) -> Result<(), CutShort> {
        rest.take(6)?;
        let screen = (rest.u16_le()?.into(), rest.u16_le()?.into());
        self.size = Some(screen);
        let flags = rest.u8()?;
        rest.take(2)?;
        rest.take(color_table_bytes(flags))?;
        loop {
            match rest.u8() {
                Ok(0x2c) => {
                    rest.take(4)?;
                    let (width, height): (u32, u32) =
                        (rest.u16_le()?.into(), rest.u16_le()?.into());
                    if self.frames == 0 && (width > screen.0 || height > screen.1) {
                        self.refuse(Format::Gif, "its first frame is larger than the picture");
                    }
                    let flags = rest.u8()?;
                    rest.take(color_table_bytes(flags) + 1)?;
                    rest.sub_blocks()?;
                    self.frames = self.frames.saturating_add(1);
                }
                Ok(0x21) => {
                    rest.take(1)?;
                    rest.sub_blocks()?;
                }
                Ok(0x3b) => return Ok(()),
                // Between blocks the end, or what is not a block, costs at most later frames.
                Ok(_) | Err(CutShort) if self.frames > 0 => return Ok(()),
                Ok(_) => {
                    self.refuse(Format::Gif, "it has a block of an unknown kind");
                    return Ok(());
                }
                Err(CutShort) => return Err(CutShort),
            }
        }
    }
}

/// Bytes of a GIF colour table, by the flags that announce it.
fn color_table_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// The canvas or picture size, if the chunk is of a kind that says it.
fn webp_size(kind: &[u8], head: &[u8]) -> Option<(u32, u32)> {
    match (kind, head) {
        (b"VP8X", [_, _, _, _, w0, w1, w2, h0, h1, h2, ..]) => Some((
            u32::from_le_bytes([*w0, *w1, *w2, 0]) + 1,
            u32::from_le_bytes([*h0, *h1, *h2, 0]) + 1,
        )),
        (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..]) => Some((
            u32::from(u16::from_le_bytes([*w0, *w1]) & 0x3fff),
            u32::from(u16::from_le_bytes([*h0, *h1]) & 0x3fff),
        )),
        (b"VP8L", [0x2f, b0, b1, b2, b3, ..]) => {
            let bits = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
            Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        _ => None,
    }
}

/// A place in the file.
#[derive(Clone)]
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn remaining(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CutShort> {
        let taken = self.remaining().get(..length).ok_or(CutShort)?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CutShort> {
        let taken = *self.remaining().first_chunk::<N>().ok_or(CutShort)?;
        self.at += N;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, CutShort> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16_le(&mut self) -> Result<u16, CutShort> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32_le(&mut self) -> Result<u32, CutShort> {
        self.array().map(u32::from_le_bytes)
    }

    fn u32_be(&mut self) -> Result<u32, CutShort> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next JPEG marker. Entropy-coded data, its stuffed zeros and fill bytes are passed over.
    fn next_marker(&mut self) -> Result<u8, CutShort> {
        loop {
            let start = self.remaining().iter().position(|&byte| byte == 0xff).ok_or(CutShort)?;
            self.at += start + 1;
            match self.remaining().first() {
                // A fill byte: the marker may follow the next 0xff.
                Some(0xff) => {}
                Some(0) => self.at += 1,
                Some(&marker) => {
                    self.at += 1;
                    return Ok(marker);
                }
                None => return Err(CutShort),
            }
        }
    }

    /// The content of a JPEG segment.
    fn segment(&mut self) -> Result<&'a [u8], CutShort> {
        let length = u16::from_be_bytes(self.array()?);
        // The length counts its own two bytes.
        self.take(usize::from(length.saturating_sub(2)))
    }

    /// Passes over GIF sub-blocks up to and with the empty one that ends them.
    fn sub_blocks(&mut self) -> Result<(), CutShort> {
        loop {
            match self.u8()? {
                0 => return Ok(()),
                length => self.take(length.into())?,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROCKET: &[u8] = include_bytes!("../../testdata/rocket.jpg");
    const CHELSEA: &[u8] = include_bytes!("../../testdata/chelsea.png");

    fn reason(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn whole_files_are_understood() {
        let header = read(ROCKET).unwrap();
        assert_eq!((header.format, header.width, header.height), (Format::Jpeg, 640, 427));
        let header = read(CHELSEA).unwrap();
        assert_eq!((header.format, header.width, header.height), (Format::Png, 451, 300));
        assert_eq!((header.frames, header.orientation), (1, Orientation::UPRIGHT));
    }

    #[test]
    fn every_cut_is_noticed() {
        for file in [ROCKET, CHELSEA] {
            for cut in (16..file.len()).step_by(997).chain([file.len() - 2, file.len() - 1]) {
                let reason = reason(&file[..cut]);
                assert!(reason.contains("ends early"), "cut at {cut}: {reason}");
            }
        }
    }

    #[test]
    fn what_follows_the_end_mark_is_not_the_picture() {
        for file in [ROCKET, CHELSEA] {
            let longer = [file, b"appended by a camera"].concat();
            assert_eq!(read(&longer).unwrap(), read(file).unwrap());
        }
    }

    #[test]
    fn too_large_is_said_even_of_a_beginning() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend(30_000_u32.to_be_bytes().repeat(2));
        png.extend([8, 2, 0, 0, 0]);
        assert!(reason(&png).contains("too large"), "{}", reason(&png));

        let mut webp = b"RIFF\xff\xff\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
        webp.extend([0xff; 6]);
        assert!(reason(&webp).contains("too large"), "{}", reason(&webp));

        let gif = b"GIF89a\xff\xff\xff\xff\0\0\0";
        assert!(reason(gif).contains("too large"), "{}", reason(gif));

        let jpeg =
            b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\x01\x03\x11\x01";
        assert!(reason(jpeg).contains("too large"), "{}", reason(jpeg));
    }

    #[test]
    fn a_second_jpeg_frame_header_is_refused() {
        let twice = b"\xff\xd8\xff\xc0\0\x0b\x08\0\x01\0\x01\x01\x01\x11\0\xff\xc0\0\x0b\x08\0\x01\0\x01\x01\x01\x11\0\xff\xd9";
        assert!(reason(twice).contains("two frame headers"));
    }
}
