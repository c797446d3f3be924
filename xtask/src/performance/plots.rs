//! Plots of a scenario: bars that lie on their side, so that the names of variants have room above them.
//!
//! Rates have whiskers from the lowest round to the highest, and their limits are grey. Latencies have a bar for each
//! percentile. The background is white whatever the page's is. The viewer's own font is taken, so no text is measured.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::{Figure, number};
use crate::Failure;

const OURS: RGBColor = RGBColor(31, 111, 235);
const LIMIT: RGBColor = RGBColor(160, 167, 176);
/// Of p50, p95 and p99.
const SHADES: [RGBColor; 3] = [RGBColor(31, 111, 235), RGBColor(110, 166, 245), RGBColor(181, 210, 250)];
const INK: RGBColor = RGBColor(36, 41, 47);
const FAINT: RGBColor = RGBColor(225, 228, 232);
const FONT: &str = "sans-serif";

/// Pixels.
const WIDTH: u32 = 800;
/// For what is written right of the longest bar.
const ROOM: u32 = 190;
const NAME: f64 = 24.0;
const BAR: f64 = 20.0;
const GAP: f64 = 10.0;
/// Between two bars of a group.
const BETWEEN: f64 = 3.0;
/// What is not bars: the title, the axis and the margins.
const AROUND: f64 = 100.0;

/// A picture of figures of one unit.
#[derive(Debug)]
pub(super) struct Plot {
    /// `rates`, `latencies` or `memory`: a part of its file's name.
    pub(super) kind: &'static str,
    pub(super) title: String,
    unit: String,
    groups: Vec<Group>,
}

/// Bars below a name.
#[derive(Debug, PartialEq)]
struct Group {
    name: String,
    bars: Vec<Bar>,
}

#[derive(Debug, PartialEq)]
struct Bar {
    value: f64,
    whiskers: Option<(f64, f64)>,
    note: String,
    color: RGBColor,
}

/// The plots of a scenario's figures. One bar alone says no more than the table does, and makes none.
pub(super) fn of(figures: &[Figure]) -> Vec<Plot> {
    let Some(scenario) = figures.first().map(|figure| &figure.scenario) else { return Vec::new() };
    let mut plots = Vec::new();
    let mut add = |kind, what: &str, unit: &str, groups: Vec<Group>| {
        if groups.len() > 1 {
            plots.push(Plot { kind, title: format!("{scenario}: {what}"), unit: unit.to_owned(), groups });
        }
    };
    let unit = figures.iter().find(|figure| figure.is_rate()).map_or("", |figure| &figure.unit);
    add("rates", "median of the rounds, lowest to highest", unit, rates(figures, unit));
    let with_percentiles = figures.iter().filter(|figure| figure.p50_ms.is_some());
    add("latencies", "percentiles", "ms", with_percentiles.map(latencies).collect());
    let memory = figures.iter().filter(|figure| figure.unit == "MB" && !figure.is_rate());
    add("memory", "memory of the service", "MB", memory.map(value).collect());
    plots
}

/// A figure that stands beside two limits is one bar.
fn rates(figures: &[Figure], unit: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut seen: Vec<&Figure> = Vec::new();
    for figure in figures.iter().filter(|figure| figure.is_rate() && figure.unit == unit) {
        let same =
            |earlier: &&Figure| (earlier.value, earlier.low, earlier.high) == (figure.value, figure.low, figure.high);
        if !seen.iter().any(same) {
            seen.push(figure);
            groups.push(value(figure));
        }
    }
    groups
}

fn value(figure: &Figure) -> Group {
    let ratio = figure.ratio.map(|ratio| format!("  ({} ×)", number(ratio))).unwrap_or_default();
    let bar = Bar {
        value: figure.value,
        whiskers: figure.low.zip(figure.high),
        note: format!("{}{ratio}", number(figure.value)),
        color: if figure.is_limit() { LIMIT } else { OURS },
    };
    Group { name: figure.variant.clone(), bars: vec![bar] }
}

fn latencies(figure: &Figure) -> Group {
    let bars = figure.percentiles().zip(SHADES).map(|((name, ms), color)| Bar {
        value: ms,
        whiskers: None,
        note: format!("{name}  {} ms", number(ms)),
        color,
    });
    Group { name: figure.variant.clone(), bars: bars.collect() }
}

impl Group {
    fn height(&self) -> f64 {
        self.bars.iter().fold(NAME + GAP, |sum, _| sum + BAR)
    }
}

impl Plot {
    /// As SVG.
    pub(super) fn svg(&self) -> Result<String, Failure> {
        let height: f64 = self.groups.iter().map(Group::height).sum();
        let mut svg = String::new();
        // A height is far below what an integer holds.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole pixels")]
        let size = (WIDTH, (height + AROUND).ceil() as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        self.draw(&area, height)?;
        area.present()?;
        drop(area);
        Ok(svg + "\n")
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, height: f64) -> Result<(), Failure> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 20).into_font().color(&INK))
            .margin(16)
            .margin_right(ROOM)
            .x_label_area_size(44)
            .build_cartesian_2d(0.0..self.longest(), 0.0..height)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(6)
            .x_label_formatter(&|value| mark(*value))
            .x_desc(&self.unit)
            .label_style((FONT, 15).into_font().color(&INK))
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        let mut top = height;
        for group in &self.groups {
            draw_group(&mut chart, group, top)?;
            top -= group.height();
        }
        Ok(())
    }

    /// Where the axis ends.
    fn longest(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let longest =
            bars.map(|bar| bar.whiskers.map_or(bar.value, |(_, high)| high.max(bar.value))).fold(0.0, f64::max);
        if longest > 0.0 { longest * 1.02 } else { 1.0 }
    }
}

/// What stands at a place of the axis: no zeros that say nothing.
fn mark(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn draw_group(chart: &mut Chart<'_, '_>, group: &Group, top: f64) -> Result<(), Failure> {
    note(chart, &group.name, (0.0, top - NAME / 2.0), 0)?;
    let mut top = top - NAME;
    for bar in &group.bars {
        let bottom = top - BAR + BETWEEN;
        let middle = f64::midpoint(top, bottom);
        chart.draw_series([Rectangle::new([(0.0, top), (bar.value, bottom)], bar.color.filled())])?;
        if let Some((low, high)) = bar.whiskers {
            chart.draw_series([ErrorBar::new_horizontal(middle, low, bar.value, high, INK.filled(), 8)])?;
        }
        let end = bar.whiskers.map_or(bar.value, |(_, high)| high.max(bar.value));
        note(chart, &bar.note, (end, middle), 8)?;
        top -= BAR;
    }
    Ok(())
}

/// Writes text that begins so many pixels right of a place, and whose middle is as high.
fn note(chart: &mut Chart<'_, '_>, text: &str, at: (f64, f64), right: i32) -> Result<(), Failure> {
    let style = (FONT, 16).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    chart.draw_series([EmptyElement::at(at) + Text::new(text.to_owned(), (right, 0), style)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_the_axis_are_short() {
        assert_eq!(
            [0.0, 0.2, 0.1 + 0.2, 5.0, 50.0, 12.5, 2000.0].map(mark),
            ["0", "0.2", "0.3", "5", "50", "12.5", "2,000"]
        );
    }
}
