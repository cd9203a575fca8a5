//! Sharpness and brightness as plain numbers.

use serde::{Deserialize, Serialize};

use super::{Look, rounded};

/// How sharp and how bright a picture is, measured on a copy of at most 512 px.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Variance of the Laplacian of the luma. Below about 100 a photograph looks blurred; there is no upper bound.
    pub sharpness: f64,
    /// Mean luma, 0 black to 1 white.
    pub brightness: f64,
}

pub(crate) fn quality(look: &Look) -> Quality {
    let luma: Vec<f64> = look.luma().map(f64::from).collect();
    #[expect(clippy::cast_precision_loss, reason = "at most 512 x 512")]
    let count = luma.len().max(1) as f64;
    Quality {
        sharpness: rounded(sharpness(&luma, look.width, look.height), 1),
        brightness: rounded(luma.iter().sum::<f64>() / count / 255.0, 3),
    }
}

fn sharpness(luma: &[f64], width: usize, height: usize) -> f64 {
    let at = |x: usize, y: usize| luma[y * width + x];
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let edge = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4.0 * at(x, y);
            sum += edge;
            squares += edge * edge;
            count += 1.0;
        }
    }
    if count == 0.0 { 0.0 } else { squares / count - (sum / count).powi(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(color: impl Fn(usize) -> u8) -> Look {
        Look { width: 32, height: 32, pixels: (0..32 * 32).map(|at| [color(at % 32); 3]).collect() }
    }

    #[test]
    fn an_edge_is_sharper_than_a_slope_and_a_plain_is_not_sharp() {
        let edge = quality(&look(|x| if x < 16 { 0 } else { 255 }));
        let slope = quality(&look(|x| u8::try_from(x * 8).unwrap()));
        let plain = quality(&look(|_| 51));
        assert!(edge.sharpness > slope.sharpness);
        assert_eq!(plain, Quality { sharpness: 0.0, brightness: 0.2 });
    }
}
