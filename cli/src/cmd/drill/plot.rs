//! How long restores took and how old the data were, drill by drill, as SVG.

use plotters::prelude::*;

use super::report::Report;
use crate::error::{Error, Result};

const SIZE: (u32, u32) = (860, 300);
const BLUE_GREY: RGBColor = RGBColor(70, 120, 180);
const AMBER: RGBColor = RGBColor(200, 120, 30);
/// The most drills that are drawn.
const MOST: usize = 60;

/// One drill.
struct Point {
    rto: f64,
    rpo: f64,
    ok: bool,
}

/// Draws the drills before a report's, and its own.
pub(super) fn plot(report: &Report) -> Result<String> {
    let past = report.past.iter().map(|past| Point {
        rto: past.rto_seconds,
        rpo: past.rpo_seconds,
        ok: past.ok,
    });
    let own =
        Point { rto: report.rto_seconds, rpo: report.rpo_seconds.unwrap_or(0.0), ok: report.ok };
    let mut points: Vec<_> = past.chain([own]).collect();
    points.drain(..points.len().saturating_sub(MOST));
    let mut svg = String::new();
    draw(&points, &mut svg).map_err(|e| Error::local("draw", "the plot", e))?;
    Ok(svg)
}

fn draw(points: &[Point], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (upper, lower) = area.split_vertically(SIZE.1 / 2);
    series(&upper, "RTO: seconds that the restore took", points, BLUE_GREY, |point| point.rto)?;
    series(&lower, "RPO: hours that the data were old", points, AMBER, |point| point.rpo / 3600.0)?;
    area.present()?;
    Ok(())
}

fn series(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    points: &[Point],
    colour: RGBColor,
    value: impl Fn(&Point) -> f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let most = points.iter().map(&value).fold(0.0, f64::max).max(0.001) * 1.15;
    let last = i32::try_from(points.len())?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 13))
        .margin(8)
        .x_label_area_size(18)
        .y_label_area_size(60)
        .build_cartesian_2d(0..last + 1, 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(points.len().min(12))
        .y_labels(4)
        .label_style(("sans-serif", 11))
        .draw()?;
    let at = || (1..).zip(points).map(|(at, point)| (at, value(point), point.ok));
    let line: Vec<_> = at().map(|(x, y, _)| (x, y)).collect();
    chart.draw_series(std::iter::once(PathElement::new(line, colour)))?;
    chart.draw_series(at().map(|(x, y, ok)| {
        // One that has not proved everything is no measure: it is marked.
        let style = if ok { colour.filled() } else { RED.filled() };
        Circle::new((x, y), 4, style)
    }))?;
    Ok(())
}
