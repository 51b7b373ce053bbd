//! The last hour, or as much of it as is there, as a line that is as high as its highest value.

use std::fmt::{Result, Write};

use super::escape;
use crate::observe::hour;

/// The chart's own units; the page stretches it.
const WIDTH: f32 = 300.0;
const HEIGHT: f32 = 40.0;

/// `kind` is a class, `what` says what is drawn. What is not known (NaN) leaves a gap.
pub(super) fn write(
    page: &mut String,
    kind: &str,
    what: &str,
    values: impl ExactSizeIterator<Item = f32>,
    words: impl Fn(f32) -> String,
) -> Result {
    let values: Vec<f32> = values.collect();
    let most = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max);
    let peak = if values.is_empty() { "nothing yet".to_owned() } else { format!("at most {}", words(most)) };
    let (peak, what) = (escape(&peak), escape(&format!("{what}, {}", hour::width(values.len()).1)));
    writeln!(
        page,
        "<figure class=\"chart {kind}\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{what}: {peak}\">\
         <path class=\"line\" d=\"{}\"/></svg><figcaption>{what} <span>{peak}</span></figcaption></figure>",
        path(&values, most)
    )
}

fn path(values: &[f32], most: f32) -> String {
    let mut path = String::new();
    let mut pen = 'M';
    let wide = (hour::width(values.len()).0 - 1) as f32;
    for (index, value) in values.iter().enumerate() {
        if !value.is_finite() {
            pen = 'M';
            continue;
        }
        let ago = (values.len() - 1 - index) as f32 / wide;
        let (x, part) = ((1.0 - ago) * WIDTH, if most > 0.0 { value / most } else { 0.0 });
        // A line has a width: neither end of the scale is cut.
        let y = HEIGHT - 1.5 - part * (HEIGHT - 3.0);
        path += &format!("{pen}{x:.1} {y:.1}");
        pen = 'L';
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_at_the_right_and_what_is_not_known_is_a_gap() {
        assert_eq!(path(&[], 0.0), "");
        assert_eq!(path(&[0.0], 0.0), "M300.0 38.5");
        assert_eq!(path(&[2.0, f32::NAN, 1.0, 2.0], 2.0), "M269.0 1.5M289.7 20.0L300.0 1.5");
    }
}
