//! The few EXIF facts that are shown. Where a picture was taken is told only when asked for.

use exif::{Exif, In, Reader, Tag, Value};
use serde::{Deserialize, Serialize};

use super::Orientation;

/// Characters of a text that are kept; longer ones are not names.
const TEXT_CHARS_MAX: usize = 100;

/// What the camera or the editor wrote into the file, as far as it is there and makes sense.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExifSummary {
    /// Maker of the camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub make: Option<String>,
    /// Model of the camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The lens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lens: Option<String>,
    /// The program that wrote the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// When the picture was taken, else last changed: `2012-09-17T15:53:45`, without a zone as EXIF has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_time: Option<String>,
    /// Exposure time in seconds, as a fraction such as `1/250`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure_time: Option<String>,
    /// F-number, such as `2.8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f_number: Option<String>,
    /// ISO speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iso: Option<u32>,
    /// Focal length in millimetres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub focal_length: Option<String>,
    /// Where the picture was taken. Only present if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gps: Option<GpsPosition>,
}

/// A place on earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GpsPosition {
    /// North is positive.
    pub latitude: f64,
    /// East is positive.
    pub longitude: f64,
}

/// Reads the summary from an EXIF block. `None` if the block is unreadable or says none of it.
pub fn summary(block: &[u8], with_gps: bool) -> Option<ExifSummary> {
    let exif = parse(block)?;
    let text = |tag| exif.get_field(tag, In::PRIMARY).and_then(|field| clean(&field.value));
    let shown = |tag| {
        let field = exif.get_field(tag, In::PRIMARY)?;
        matches!(field.value, Value::Rational(_)).then(|| field.display_value().to_string())
    };
    let summary = ExifSummary {
        make: text(Tag::Make),
        model: text(Tag::Model),
        lens: text(Tag::LensModel),
        software: text(Tag::Software),
        date_time: [Tag::DateTimeOriginal, Tag::DateTimeDigitized, Tag::DateTime]
            .into_iter()
            .find_map(|tag| date_time(&text(tag)?)),
        exposure_time: shown(Tag::ExposureTime),
        f_number: shown(Tag::FNumber),
        iso: exif
            .get_field(Tag::PhotographicSensitivity, In::PRIMARY)
            .and_then(|field| field.value.get_uint(0)),
        focal_length: shown(Tag::FocalLength),
        gps: if with_gps { gps(&exif) } else { None },
    };
    (summary != ExifSummary::default()).then_some(summary)
}

/// Reads the orientation from an EXIF block.
pub fn orientation(block: &[u8]) -> Option<Orientation> {
    let exif = parse(block)?;
    let field = exif.get_field(Tag::Orientation, In::PRIMARY)?;
    Orientation::from_exif(field.value.get_uint(0)?)
}

/// Takes what is readable of a partly broken block: a bad maker note is common and says nothing about the rest.
fn parse(block: &[u8]) -> Option<Exif> {
    Reader::new()
        .continue_on_error(true)
        .read_raw(block.to_vec())
        .or_else(|error| error.distill_partial_result(|_| {}))
        .ok()
}

/// A printable text without padding, or nothing.
fn clean(value: &Value) -> Option<String> {
    let Value::Ascii(parts) = value else { return None };
    let text: String = String::from_utf8_lossy(parts.first()?)
        .chars()
        .filter(|c| !c.is_control())
        .take(TEXT_CHARS_MAX)
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// `2012:09:17 15:53:45` as `2012-09-17T15:53:45`; nothing for blank or impossible dates.
///
/// Some editors write ISO 8601 into the field, against the standard but unmistakable, so it is taken too.
fn date_time(text: &str) -> Option<String> {
    let text = text.get(..19)?;
    let separators_fit = text.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => matches!(byte, b':' | b'-'),
        10 => matches!(byte, b' ' | b'T'),
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    if !separators_fit {
        return None;
    }
    let number = |at: std::ops::Range<usize>| text.get(at)?.parse::<u16>().ok();
    let possible = number(0..4)? > 0
        && (1..=12).contains(&number(5..7)?)
        && (1..=31).contains(&number(8..10)?)
        && number(11..13)? < 24
        && number(14..16)? < 60
        && number(17..19)? <= 60;
    possible.then(|| format!("{}-{}-{}T{}", &text[..4], &text[5..7], &text[8..10], &text[11..]))
}

fn gps(exif: &Exif) -> Option<GpsPosition> {
    let degrees = |tag, reference, negative: u8, max: f64| {
        let Value::Rational(parts) = &exif.get_field(tag, In::PRIMARY)?.value else { return None };
        let [degrees, minutes, seconds] = parts.get(..3)? else { return None };
        let value = degrees.to_f64() + minutes.to_f64() / 60.0 + seconds.to_f64() / 3600.0;
        let Value::Ascii(letters) = &exif.get_field(reference, In::PRIMARY)?.value else {
            return None;
        };
        let sign = if *letters.first()?.first()? == negative { -1.0 } else { 1.0 };
        // Also refuses what a division by zero in the file leads to. A millionth of a degree is 11 cm.
        (value <= max).then(|| sign * (value * 1e6).round() / 1e6)
    };
    Some(GpsPosition {
        latitude: degrees(Tag::GPSLatitude, Tag::GPSLatitudeRef, b'S', 90.0)?,
        longitude: degrees(Tag::GPSLongitude, Tag::GPSLongitudeRef, b'W', 180.0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::header::exif_block;
    use super::*;

    #[test]
    fn hubble_was_edited_in_2012() {
        let file = include_bytes!("../../testdata/hubble_deep_field.jpg");
        let summary = summary(exif_block(file).unwrap(), true).unwrap();
        assert!(summary.date_time.as_deref().unwrap().starts_with("2012-09-17"), "{summary:?}");
        assert_eq!(summary.gps, None);
    }

    #[test]
    fn dates_that_cannot_be_are_left_out() {
        assert_eq!(date_time("2012:09:17 15:53:45").as_deref(), Some("2012-09-17T15:53:45"));
        let iso = date_time("2012-09-17T15:53:45-04:00");
        assert_eq!(iso.as_deref(), Some("2012-09-17T15:53:45"));
        for text in [
            "0000:00:00 00:00:00",
            "    :  :     :  :  ",
            "2012:13:01 00:00:00",
            "2012-09",
            "",
            "2012:09:17 15:53:4é",
        ] {
            assert_eq!(date_time(text), None, "{text}");
        }
    }

    #[test]
    fn rubbish_is_no_exif() {
        assert_eq!(summary(b"", true), None);
        assert_eq!(summary(b"II*\0\xff\xff\xff\xff", true), None);
        assert_eq!(orientation(b"MM\0*\0\0\0\x08\xff\xff"), None);
    }
}
