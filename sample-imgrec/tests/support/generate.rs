//! Pictures of every kind, made on the spot: ordinary, awkward and hostile ones.

use std::io::Cursor;
use std::iter;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, Frame, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage, imageops};
use png::{BitDepth, ColorType, Compression};

pub(crate) const RED: [u8; 3] = [220, 30, 30];
pub(crate) const BLUE: [u8; 3] = [30, 60, 220];
pub(crate) const GREEN: [u8; 3] = [30, 180, 60];

/// Left half red, right half blue above and green below: no turn and no mirror leaves it as it is.
pub(crate) fn drawing(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, _) => Rgb(RED),
        (false, true) => Rgb(BLUE),
        (false, false) => Rgb(GREEN),
    })
}

pub(crate) fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(picture).unwrap();
    bytes
}

pub(crate) fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
    encoded(picture, ImageFormat::Png)
}

pub(crate) fn lossless_webp(picture: impl Into<DynamicImage>) -> Vec<u8> {
    encoded(picture, ImageFormat::WebP)
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// One picture, or an animation of several.
pub(crate) fn gif(frames: &[RgbImage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for frame in frames {
        let frame = DynamicImage::ImageRgb8(frame.clone()).into_rgba8();
        encoder.encode_frame(Frame::new(frame)).unwrap();
    }
    drop(encoder);
    bytes
}

/// The drawing with a transparent right half, whose hidden colours stay in the file.
pub(crate) fn transparent_drawing(width: u32, height: u32) -> RgbaImage {
    let drawing = drawing(width, height);
    RgbaImage::from_fn(width, height, |x, y| {
        let [r, g, b] = drawing.get_pixel(x, y).0;
        Rgba([r, g, b, if x < width / 2 { 255 } else { 0 }])
    })
}

pub(crate) fn gray_png(width: u32, height: u32) -> Vec<u8> {
    png(image::GrayImage::from_fn(width, height, |x, y| {
        Luma([u8::try_from((x + y) % 256).unwrap()])
    }))
}

/// The drawing in 16 bits a channel.
pub(crate) fn deep_png(width: u32, height: u32) -> Vec<u8> {
    png(DynamicImage::ImageRgb8(drawing(width, height)).into_rgb16())
}

/// The drawing by palette, four pixels a byte, and one more entry that is transparent and not used.
pub(crate) fn palette_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Two);
    encoder.set_palette([RED, BLUE, GREEN, [0; 3]].concat());
    encoder.set_trns(vec![255, 255, 255, 0]);
    let drawing = drawing(width, height);
    let mut rows = Vec::new();
    for row in drawing.rows() {
        let indices: Vec<u8> = row
            .map(|pixel| match pixel.0 {
                RED => 0,
                BLUE => 1,
                _ => 2,
            })
            .collect();
        rows.extend(indices.chunks(4).map(|four| {
            four.iter().enumerate().fold(0, |byte, (at, index)| byte | index << (6 - 2 * at))
        }));
    }
    encoder.write_header().unwrap().write_image_data(&rows).unwrap();
    bytes
}

/// A whole and valid PNG of one colour, one bit a pixel: large to decode, small to send.
pub(crate) fn bomb_png(width: u32, height: u32) -> Vec<u8> {
    use std::io::Write;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::One);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = vec![0; width.div_ceil(8) as usize];
    for _ in 0..height {
        stream.write_all(&row).unwrap();
    }
    stream.finish().unwrap();
    drop(writer);
    bytes
}

/// The picture as a camera stores it that was held so that viewers have to apply this EXIF orientation.
pub(crate) fn stored_for(upright: &RgbImage, orientation: u8) -> RgbImage {
    match orientation {
        1 => upright.clone(),
        2 => imageops::flip_horizontal(upright),
        3 => imageops::rotate180(upright),
        4 => imageops::flip_vertical(upright),
        5 => imageops::rotate270(&imageops::flip_horizontal(upright)),
        6 => imageops::rotate270(upright),
        7 => imageops::rotate90(&imageops::flip_horizontal(upright)),
        8 => imageops::rotate90(upright),
        _ => panic!("{orientation} is no orientation"),
    }
}

/// An EXIF block with an orientation, a camera, a date and a place: 48° 51' 30" N, 2° 17' 40" W.
pub(crate) fn exif_block(orientation: u8) -> Vec<u8> {
    const GPS_AT: u32 = 8 + 2 + 4 * 12 + 4;
    const DATA_AT: u32 = GPS_AT + 2 + 4 * 12 + 4;
    let mut data = Vec::new();
    let mut stored = |value: &[u8]| {
        let at = DATA_AT + u32::try_from(data.len()).unwrap();
        data.extend_from_slice(value);
        at.to_le_bytes()
    };
    let make = stored(b"Testcam\0");
    let date = stored(b"2021:02:03 04:05:06\0");
    let latitude = stored(&rationals([(48, 1), (51, 1), (30, 1)]));
    let longitude = stored(&rationals([(2, 1), (17, 1), (40, 1)]));

    let mut block = b"II*\0\x08\0\0\0".to_vec();
    // Tag, type (2 text, 3 short, 4 long, 5 fraction), count, value or where it is.
    let folder = |entries: [(u16, u16, u32, [u8; 4]); 4]| {
        let mut bytes = 4_u16.to_le_bytes().to_vec();
        for (tag, kind, count, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(value);
        }
        bytes.extend([0; 4]);
        bytes
    };
    block.extend(folder([
        (0x010f, 2, 8, make),
        (0x0112, 3, 1, [orientation, 0, 0, 0]),
        (0x0132, 2, 20, date),
        (0x8825, 4, 1, GPS_AT.to_le_bytes()),
    ]));
    block.extend(folder([
        (1, 2, 2, *b"N\0\0\0"),
        (2, 5, 3, latitude),
        (3, 2, 2, *b"W\0\0\0"),
        (4, 5, 3, longitude),
    ]));
    block.extend(data);
    block
}

fn rationals(parts: [(u32, u32); 3]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|(over, under)| [over.to_le_bytes(), under.to_le_bytes()].concat())
        .collect()
}

/// A JPEG with this EXIF block put in front.
pub(crate) fn jpeg_with_exif(jpeg: &[u8], block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(2 + 6 + block.len()).unwrap();
    [&jpeg[..2], b"\xff\xe1", &length.to_be_bytes(), b"Exif\0\0", block, &jpeg[2..]].concat()
}

/// Small pictures, all different, JPEG and PNG in turn, with names such as `0007.png`.
pub(crate) fn numbered(count: u32) -> impl Iterator<Item = (String, Vec<u8>)> {
    numbered_of(count, 48, 32)
}

/// The same in another size.
pub(crate) fn numbered_of(
    count: u32,
    width: u32,
    height: u32,
) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..count).map(move |number| {
        let [_, _, high, low] = number.to_be_bytes();
        let picture = RgbImage::from_fn(width, height, |x, y| {
            // The number in stripes of an eighth, so that it also survives the losses of JPEG.
            let bit = number >> (x * 6 / width + 6 * (y * 2 / height)) & 1;
            Rgb([if bit == 1 { 200 } else { 40 }, low, high.wrapping_mul(60)])
        });
        if number % 2 == 0 {
            (format!("{number:04}.jpg"), jpeg(&picture))
        } else {
            (format!("{number:04}.png"), png(picture))
        }
    })
}

/// Numbers that look random and are the same in every run (xorshift64*).
pub(crate) fn noise(seed: u64) -> impl Iterator<Item = u64> {
    iter::successors(Some(seed.max(1)), |state| {
        let mut next = *state;
        next ^= next >> 12;
        next ^= next << 25;
        next ^= next >> 27;
        Some(next)
    })
    .map(|state| state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16)
}
