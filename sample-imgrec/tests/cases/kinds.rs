//! Every kind of picture that has to work, seen through to its thumbnails and its analysis.

use image::{DynamicImage, GenericImageView};
use sample_imgrec::analyze::{Analysis, AnalyzeOptions, analyze_bytes};
use sample_imgrec::picture::{
    Deadline, Encoded, Format, decode, header, plan, sniff, thumbnail_from_bytes, validate,
};
use sample_imgrec::samples::SAMPLES;

use crate::support::generate::*;

const LOSSY_WEBP: &[u8] = include_bytes!("../fixtures/lossy.webp");
const ALPHA_WEBP: &[u8] = include_bytes!("../fixtures/alpha.webp");
const ANIMATED_WEBP: &[u8] = include_bytes!("../fixtures/animated.webp");
const ANIMATED_PNG: &[u8] = include_bytes!("../fixtures/animated.png");
const CMYK_JPEG: &[u8] = include_bytes!("../fixtures/cmyk.jpg");
const PROGRESSIVE_JPEG: &[u8] = include_bytes!("../fixtures/progressive.jpg");

fn analyzed(bytes: &[u8]) -> Analysis {
    analyze_bytes(bytes, AnalyzeOptions::default(), Deadline::none()).unwrap()
}

fn thumbnail(bytes: &[u8], size: u32) -> (Encoded, DynamicImage) {
    let made = thumbnail_from_bytes(bytes, size, Deadline::none()).unwrap();
    let seen = image::load_from_memory(&made.bytes).unwrap();
    assert_eq!((made.width, made.height), seen.dimensions());
    assert_eq!(header::exif_block(&made.bytes), None);
    (made, seen)
}

/// The picture goes all the way, in all its sizes.
fn goes_through(bytes: &[u8], format: Format, size: (u32, u32)) -> Analysis {
    let header = validate(bytes).unwrap();
    assert_eq!((header.format, header.width, header.height), (format, size.0, size.1));
    for side in plan(size.0, size.1) {
        let (made, _) = thumbnail(bytes, side);
        assert_eq!(made.width.max(made.height), side);
    }
    let analysis = analyzed(bytes);
    assert_eq!((analysis.metadata.width, analysis.metadata.height), size);
    assert!(analysis.description.captions.is_empty());
    analysis
}

/// The drawing of the generator is upright in the picture, with little loss of colour.
fn shows_the_drawing(seen: &DynamicImage) {
    let (width, height) = seen.dimensions();
    for (x, y, expected) in [(1, 1, RED), (1, 3, RED), (3, 1, BLUE), (3, 3, GREEN)]
        .map(|(x, y, c)| (width * x / 4, height * y / 4, c))
    {
        let found = seen.get_pixel(x, y).0;
        let near = expected.iter().zip(found).all(|(a, b)| a.abs_diff(b) < 40);
        assert!(near, "at {x}, {y} of {width} x {height}: {found:?} instead of {expected:?}");
    }
}

#[test]
fn every_format_shows_its_drawing() {
    for (name, bytes, format) in [
        ("jpeg", jpeg(&drawing(48, 32)), Format::Jpeg),
        ("progressive jpeg", PROGRESSIVE_JPEG.to_vec(), Format::Jpeg),
        ("cmyk jpeg", CMYK_JPEG.to_vec(), Format::Jpeg),
        ("png", png(drawing(48, 32)), Format::Png),
        ("16 bit png", deep_png(48, 32), Format::Png),
        ("palette png", palette_png(48, 32), Format::Png),
        ("gif", gif(&[drawing(48, 32)]), Format::Gif),
        ("lossless webp", lossless_webp(drawing(48, 32)), Format::WebP),
        ("lossy webp", LOSSY_WEBP.to_vec(), Format::WebP),
    ] {
        println!("{name}");
        let analysis = goes_through(&bytes, format, (48, 32));
        assert!(!analysis.transparent && analysis.frames == 1);
        let (made, seen) = thumbnail(&bytes, 320);
        assert_eq!(made.extension, "jpg");
        shows_the_drawing(&seen);
    }
}

#[test]
fn of_an_animation_the_first_frame_is_shown_and_the_rest_counted() {
    let mirrored = image::imageops::flip_horizontal(&drawing(48, 32));
    let animated_gif = gif(&[drawing(48, 32), mirrored.clone(), mirrored]);
    for (bytes, format, frames) in [
        (&animated_gif[..], Format::Gif, 3),
        (ANIMATED_WEBP, Format::WebP, 2),
        (ANIMATED_PNG, Format::Png, 2),
    ] {
        let analysis = goes_through(bytes, format, (48, 32));
        assert_eq!(analysis.frames, frames, "{format}");
        assert!(analysis.description.tags.contains(&"animated".to_owned()), "{format}");
        shows_the_drawing(&thumbnail(bytes, 320).1);
    }
}

#[test]
fn all_eight_orientations_come_out_upright() {
    let upright = drawing(60, 36);
    for orientation in 1..=8 {
        let bytes =
            jpeg_with_exif(&jpeg(&stored_for(&upright, orientation)), &exif_block(orientation));
        println!("orientation {orientation}");
        goes_through(&bytes, Format::Jpeg, (60, 36));
        shows_the_drawing(&thumbnail(&bytes, 320).1);
        let (small, seen) = thumbnail(&bytes, 30);
        assert_eq!((small.width, small.height), (30, 18));
        shows_the_drawing(&seen);
    }
}

#[test]
fn an_impossible_orientation_is_none() {
    let bytes = jpeg_with_exif(&jpeg(&drawing(60, 36)), &exif_block(9));
    goes_through(&bytes, Format::Jpeg, (60, 36));
}

#[test]
fn exif_is_told_and_the_place_only_when_asked() {
    let bytes = jpeg_with_exif(&jpeg(&drawing(60, 36)), &exif_block(1));
    let analysis = analyzed(&bytes);
    let exif = analysis.exif.unwrap();
    assert_eq!(exif.make.as_deref(), Some("Testcam"));
    assert_eq!(exif.date_time.as_deref(), Some("2021-02-03T04:05:06"));
    assert_eq!(exif.gps, None);
    assert!(analysis.summary.ends_with(", 2021-02-03"), "{}", analysis.summary);

    let asked = analyze_bytes(&bytes, AnalyzeOptions { gps: true }, Deadline::none()).unwrap();
    let place = asked.exif.unwrap().gps.unwrap();
    assert_eq!((place.latitude, place.longitude), (48.858_333, -2.294_444));
}

#[test]
fn transparent_pictures_stay_transparent() {
    for bytes in [png(transparent_drawing(400, 300)), lossless_webp(transparent_drawing(400, 300))]
    {
        let (made, seen) = thumbnail(&bytes, 320);
        assert_eq!(made.extension, "png");
        assert_eq!(seen.get_pixel(300, 100).0[3], 0);
        // The edge is a mix of red and nothing: the hidden blue and green must not show in it.
        for x in 155..165 {
            let [r, g, b, a] = seen.get_pixel(x, 60).0;
            assert!(a == 0 || (r >= 200 && g < 50 && b < 50), "{x}: {r} {g} {b} {a}");
        }
        let analysis = analyzed(&bytes);
        assert!(
            analysis.transparent && analysis.description.tags.contains(&"transparent".to_owned())
        );
    }
    assert_eq!(thumbnail(ALPHA_WEBP, 320).0.extension, "png");
}

#[test]
fn an_alpha_channel_that_says_nothing_gives_a_jpeg() {
    let bytes = png(DynamicImage::ImageRgb8(drawing(48, 32)).into_rgba8());
    assert_eq!(thumbnail(&bytes, 320).0.extension, "jpg");
    assert!(!analyzed(&bytes).transparent);
}

#[test]
fn grey_is_black_and_white() {
    let analysis = goes_through(&gray_png(200, 100), Format::Png, (200, 100));
    assert!(analysis.color.is_bw_img);
}

#[test]
fn the_smallest_and_the_narrowest_go_through() {
    for (width, height) in [(1, 1), (16_000, 1), (1, 16_000), (2, 3)] {
        println!("{width} x {height}");
        goes_through(&png(drawing(width, height)), Format::Png, (width, height));
        goes_through(&jpeg(&drawing(width, height)), Format::Jpeg, (width, height));
    }
}

#[test]
fn real_pictures_go_through() {
    for sample in SAMPLES {
        let header = validate(sample.bytes).unwrap();
        assert_eq!(sniff::sniff(sample.bytes).unwrap(), header.format);
        goes_through(sample.bytes, header.format, (header.width, header.height));
        assert_eq!(decode(sample.bytes, Deadline::standard()).unwrap().header, header);
    }
}

#[test]
fn the_same_picture_in_another_format_has_nearly_the_same_hash() {
    let rocket = include_bytes!("../../testdata/rocket.jpg");
    let hash = analyzed(rocket).perceptual_hash;
    let pixels = image::load_from_memory(rocket).unwrap();
    let half = pixels.thumbnail(320, 320).into_rgb8();
    for bytes in
        [png(half.clone()), jpeg(&half), gif(std::slice::from_ref(&half)), lossless_webp(half)]
    {
        let distance = hash.distance(analyzed(&bytes).perceptual_hash);
        assert!(distance <= 8, "{distance} bits differ");
    }
}
