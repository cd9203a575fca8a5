//! Files that must be refused, each with a reason, at little cost; and that nothing at all brings the program down.

use std::time::{Duration, Instant};

use sample_imgrec::analyze::{AnalyzeOptions, analyze_bytes};
use sample_imgrec::picture::{
    Deadline, Excess, PictureError, decode, thumbnail_from_bytes, validate,
};

use crate::support::generate::*;

const LOSSY_WEBP: &[u8] = include_bytes!("../fixtures/lossy.webp");
const ANIMATED_WEBP: &[u8] = include_bytes!("../fixtures/animated.webp");
const ANIMATED_PNG: &[u8] = include_bytes!("../fixtures/animated.png");
const CMYK_JPEG: &[u8] = include_bytes!("../fixtures/cmyk.jpg");
const PROGRESSIVE_JPEG: &[u8] = include_bytes!("../fixtures/progressive.jpg");

/// Small files of every kind.
fn files() -> Vec<Vec<u8>> {
    let drawing = drawing(48, 32);
    vec![
        jpeg(&drawing),
        jpeg_with_exif(&jpeg(&drawing), &exif_block(6)),
        png(drawing.clone()),
        png(transparent_drawing(48, 32)),
        palette_png(48, 32),
        deep_png(48, 32),
        gif(&[drawing.clone(), drawing.clone()]),
        lossless_webp(drawing),
        LOSSY_WEBP.to_vec(),
        ANIMATED_WEBP.to_vec(),
        ANIMATED_PNG.to_vec(),
        CMYK_JPEG.to_vec(),
        PROGRESSIVE_JPEG.to_vec(),
    ]
}

#[test]
fn a_file_cut_short_is_damaged_wherever_the_cut_is() {
    for (index, file) in files().iter().enumerate() {
        for cut in (16..file.len()).step_by(7).chain([file.len() - 2]) {
            match validate(&file[..cut]) {
                Err(error @ PictureError::Corrupt { .. }) => assert!(error.is_rejection()),
                // A GIF may miss later frames; its first is whole.
                Ok(header) if file.starts_with(b"GIF") => {
                    assert!(header.frames < 2 || cut > file.len() - 8, "file {index} cut at {cut}");
                }
                other => panic!("file {index} cut at {cut}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_picture_as_large_as_a_house_is_refused_at_once() {
    let bytes = bomb_png(30_000, 30_000);
    assert!(bytes.len() < 2_000_000, "{} bytes", bytes.len());
    let start = Instant::now();
    for _ in 0..10 {
        let error = validate(&bytes).unwrap_err();
        assert!(matches!(
            error,
            PictureError::TooLarge(Excess::Side { width: 30_000, height: 30_000 })
        ));
        let error = decode(&bytes, Deadline::standard()).unwrap_err();
        assert!(error.to_string().contains("30000 x 30000"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
}

#[test]
fn many_pixels_with_short_sides_are_refused_too() {
    let error = validate(&bomb_png(8000, 6251)).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge(Excess::Pixels { .. })), "{error}");
}

#[test]
fn what_is_no_picture_is_refused_whatever_its_name() {
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"This is a text named .png", "text"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (b"GIF89a", "damaged"),
        (b"RIFF\x04\0\0\0WEBP", "damaged"),
        (b"GIF89a\0\0\0\0\0\0\0;", "damaged"),
        (&[0; 1000], "no picture"),
    ] {
        let error = validate(bytes).unwrap_err();
        assert!(error.is_rejection() && error.to_string().contains(words), "{bytes:?}: {error}");
    }
}

#[test]
fn a_file_that_is_too_long_is_refused_before_it_is_looked_at() {
    let mut bytes = jpeg(&drawing(48, 32));
    bytes.resize(20 * 1024 * 1024 + 1, 0);
    assert!(matches!(validate(&bytes), Err(PictureError::TooLarge(Excess::Bytes { .. }))));
    bytes.pop();
    assert!(validate(&bytes).is_ok());
}

#[test]
fn a_progressive_jpeg_of_endless_scans_is_refused() {
    // The last scan again and again; every one would be decoded over all pixels.
    let scan = PROGRESSIVE_JPEG.windows(2).rposition(|pair| pair == b"\xff\xda").unwrap();
    let end = PROGRESSIVE_JPEG.len() - 2;
    let mut bytes = PROGRESSIVE_JPEG[..end].to_vec();
    for _ in 0..100 {
        bytes.extend_from_slice(&PROGRESSIVE_JPEG[scan..end]);
    }
    bytes.extend_from_slice(b"\xff\xd9");
    let error = validate(&bytes).unwrap_err();
    assert!(error.to_string().contains("more scans"), "{error}");
}

/// Every way in gives an answer; a panic of our own code would show as one of the decoder.
fn survives(bytes: &[u8], what: &str) {
    let options = AnalyzeOptions { gps: true };
    if validate(bytes)
        .is_ok_and(|header| u64::from(header.width) * u64::from(header.height) > 100_000)
    {
        // A flipped size. Decoding it shows nothing that a small one does not, and takes seconds.
        return;
    }
    for answer in [
        validate(bytes).map(drop),
        decode(bytes, Deadline::standard()).map(drop),
        thumbnail_from_bytes(bytes, 20, Deadline::standard()).map(drop),
        analyze_bytes(bytes, options, Deadline::standard()).map(drop),
    ] {
        if let Err(error) = answer {
            assert!(error.is_rejection(), "{what}: {error}");
            assert!(!error.to_string().contains("stumbled"), "{what}: {error}");
        }
    }
}

#[test]
fn files_with_flipped_bytes_never_panic() {
    for (index, file) in files().into_iter().enumerate() {
        for seed in 0..60 {
            let mut noise = noise(1 + seed * 1000 + index as u64);
            let mut next = |below: usize| usize::try_from(noise.next().unwrap()).unwrap() % below;
            let mut bytes = file.clone();
            for _ in 0..1 + next(4) {
                let at = next(bytes.len());
                bytes[at] = u8::try_from(next(256)).unwrap();
            }
            if next(4) == 0 {
                let (from, to) = (next(bytes.len()), next(bytes.len()));
                bytes.drain(from.min(to)..from.max(to));
            }
            survives(&bytes, &format!("file {index}, seed {seed}"));
        }
    }
}

#[test]
fn every_byte_of_the_headers_may_be_wrong() {
    for (index, file) in files().into_iter().enumerate() {
        for at in 0..file.len().min(64) {
            for value in [0, 0xff] {
                let mut bytes = file.clone();
                bytes[at] = value;
                survives(&bytes, &format!("file {index}, byte {at} is {value}"));
            }
        }
    }
}

#[test]
fn noise_never_panics() {
    let starts: [&[u8]; 6] = [
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\xff\0\0\0WEBPVP8X",
        b"RIFF\xff\0\0\0WEBPVP8L",
    ];
    for (index, start) in starts.into_iter().enumerate() {
        for seed in 0..100 {
            let mut noise = noise(7 + seed * 31 + index as u64);
            let length = noise.next().unwrap() % 600;
            let bytes =
                noise.take(usize::try_from(length).unwrap()).map(|number| number.to_le_bytes()[0]);
            let bytes: Vec<u8> = start.iter().copied().chain(bytes).collect();
            survives(&bytes, &format!("start {index}, seed {seed}"));
        }
    }
}
