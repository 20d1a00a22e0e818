//! Every ratio as a bar beside its goal, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::results::{Figure, Results};

/// The ratios that are drawn, what they are called, and the goal.
const BARS: [(&str, &str, f64); 12] = [
    ("sign.p256.ratio_raw", "SignStream, P-256, 64 callers: rate / token's", 0.60),
    ("sign.rsa2048.ratio_raw", "SignStream, RSA-2048, 64 callers: rate / token's", 0.95),
    ("sign_call.p256.ratio_raw", "Sign, P-256, 64 callers: rate / token's", 0.60),
    ("sign_call.rsa2048.ratio_raw", "Sign, RSA-2048, 64 callers: rate / token's", 0.95),
    ("remote.p256.ratio_raw", "module to token, P-256, 32 callers: rate / token's", 0.60),
    ("remote.rsa2048.ratio_raw", "module to token, RSA-2048, 32 callers: rate / token's", 0.95),
    ("tls.nginx.p256.ratio_engine", "nginx, P-256: handshakes / SoftHSM by engine", 0.80),
    ("tls.nginx.rsa2048.ratio_engine", "nginx, RSA-2048: handshakes / SoftHSM by engine", 0.80),
    ("tls.nginx.p256.ratio_file", "nginx, P-256: handshakes / key on disk", 0.0),
    ("tls.nginx.rsa2048.ratio_file", "nginx, RSA-2048: handshakes / key on disk", 0.0),
    ("backup.create.ratio_raw", "backup: time / token's to wrap (less is better)", 1.30),
    ("backup.drill.ratio_raw", "drill: time / token's to unwrap, sign (less is better)", 1.30),
];
const SIZE: (u32, u32) = (900, 600);
/// Room for the names, in pixels.
const NAMES: i32 = 360;
const ROW: i32 = 44;

/// Draws what there is of them.
///
/// # Errors
/// Where the file cannot be written.
pub fn draw(results: &Results, file: &Path) -> Result<()> {
    render(results, file).map_err(|e| anyhow!("draw {}: {e}", file.display()))
}

fn render(results: &Results, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let text = ("sans-serif", 14).into_font().color(&BLACK);
    let title = "Medians; the line spans least and most of the rounds, the dot is the goal";
    area.draw(&Text::new(title, (20, 14), text.clone()))?;
    let drawn = BARS
        .iter()
        .filter_map(|(name, said, goal)| results.figure(name).map(|figure| (figure, *said, *goal)));
    let drawn: Vec<_> = drawn.collect();
    let most = drawn.iter().map(|(figure, ..)| figure.max).fold(1.0, f64::max);
    for ((figure, said, goal), row) in drawn.into_iter().zip(1..) {
        let x = |value: f64| NAMES + to_pixels(value / most * 480.0);
        bar(&area, figure, said, goal, row * ROW, &x)?;
    }
    area.present()?;
    Ok(())
}

fn bar(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    figure: &Figure,
    said: &str,
    goal: f64,
    y: i32,
    x: &impl Fn(f64) -> i32,
) -> Result<(), Box<dyn std::error::Error>> {
    let blue = RGBColor(70, 120, 180);
    let text = ("sans-serif", 13).into_font().color(&BLACK);
    area.draw(&Text::new(said.to_owned(), (20, y + 4), text.clone()))?;
    area.draw(&Rectangle::new([(x(0.0), y), (x(figure.value), y + 18)], blue.filled()))?;
    area.draw(&PathElement::new(
        [(x(figure.min), y + 9), (x(figure.max), y + 9)],
        BLACK.stroke_width(1),
    ))?;
    if goal > 0.0 {
        area.draw(&Circle::new((x(goal), y + 9), 4, RED.filled()))?;
    }
    let value = format!("{:.2}", figure.value);
    area.draw(&Text::new(value, (x(figure.max.max(goal)) + 8, y + 3), text))?;
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // within the picture
fn to_pixels(value: f64) -> i32 {
    value.round() as i32
}
