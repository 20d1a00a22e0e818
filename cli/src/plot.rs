//! Bars over days, as SVG.

use plotters::prelude::*;

use crate::error::{Error, Result};

const SIZE: (u32, u32) = (860, 300);
const BLUE_GREY: RGBColor = RGBColor(70, 120, 180);

/// One day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// What is in order.
    pub good: u32,
    /// What is not: it stands in red on top.
    pub bad: u32,
}

/// Draws one bar for each day, from today on.
///
/// # Errors
/// Where it cannot be drawn.
pub fn days(title: &str, days: &[Day]) -> Result<String> {
    let mut svg = String::new();
    draw(title, days, &mut svg).map_err(|e| Error::local("draw", "the plot", e))?;
    Ok(svg)
}

fn draw(title: &str, days: &[Day], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let most = days.iter().map(|day| day.good + day.bad).max().unwrap_or(0).max(1);
    let last = u32::try_from(days.len())?.max(1);
    let whole = |number: &f64| format!("{number:.0}");
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 13))
        .margin(8)
        .x_label_area_size(32)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..f64::from(last), 0.0..f64::from(most) * 1.125 + 1.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("days from now")
        .x_labels(days.len().min(12))
        .y_labels(5)
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .label_style(("sans-serif", 11))
        .draw()?;
    let bars = || (0u32..).zip(days);
    let bar = |day: u32, from: u32, to: u32, colour: RGBColor| {
        let (day, from, to) = (f64::from(day), f64::from(from), f64::from(to));
        let mut bar = Rectangle::new([(day, from), (day + 1.0, to)], colour.filled());
        bar.set_margin(0, 0, 1, 1);
        bar
    };
    chart.draw_series(bars().map(|(at, day)| bar(at, 0, day.good, BLUE_GREY)))?;
    let bad = bars().filter(|(_, day)| day.bad > 0);
    chart.draw_series(bad.map(|(at, day)| bar(at, day.good, day.good + day.bad, RED)))?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_order_is_red_and_nothing_else_is() {
        let good = days("t", &[Day { good: 3, bad: 0 }, Day::default()]).unwrap();
        assert!(good.starts_with("<svg") && !good.contains("#FF0000"), "{good}");
        assert!(days("t", &[Day { good: 3, bad: 1 }]).unwrap().contains("#FF0000"));
        assert!(days("t", &[]).unwrap().starts_with("<svg"));
    }
}
