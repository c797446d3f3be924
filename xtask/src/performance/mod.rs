//! `docs/performance.md` and its plots, from the figures of `make bench`.
//!
//! The same figures of the same machine make the same bytes. Nothing is written when a line of them is bad. Plots that
//! an earlier run left are taken away: the page and the folder beside it (`docs/performance/`) are this module's.

mod figures;
mod floors;
mod machine;
mod page;
mod plots;
mod scenarios;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use self::figures::Figure;
use self::floors::{FLOORS, Outcome, Verdict};
use self::machine::Machine;
use self::page::Section;
use crate::Failure;

/// Reads the figures in `from`, and those beside other queues in `peers` if there are any, and writes the page `to`.
/// `release`: the program that was measured was built so.
pub(crate) fn write(from: &Path, peers: Option<&Path>, to: &Path, release: bool) -> Result<String, Failure> {
    let mut figures = read(from)?;
    if figures.is_empty() {
        return Err(format!("{}: holds no figures", from.display()).into());
    }
    if let Some(peers) = peers.filter(|peers| peers.exists()) {
        figures.extend(read(peers)?);
    }
    if to.extension().is_none_or(|extension| extension != "md") {
        return Err(format!("{}: the page's name has to end with .md", to.display()).into());
    }
    let outcomes: Vec<Outcome> = FLOORS.iter().map(|floor| floor.outcome(&figures)).collect();
    let folder = to.with_extension("");
    let name = folder.file_name().and_then(|name| name.to_str()).ok_or("the page has no name")?;
    let (sections, plots) = drawn(&figures, name)?;
    let page = page::page(&figures, &outcomes, &sections, &Machine::this(from, release)?);
    replace(&folder, &plots)?;
    fs::write(to, page).map_err(|error| format!("{}: {error}", to.display()))?;
    let count = |of: &[Verdict]| outcomes.iter().filter(|outcome| of.contains(&outcome.verdict)).count();
    Ok(format!(
        "{}: {} figures, {} plots; of {} floors {} are met, {} are not, {} are not measured",
        to.display(),
        figures.len(),
        plots.len(),
        outcomes.len(),
        count(&[Verdict::Met, Verdict::WithinSpread]),
        count(&[Verdict::NotMet]),
        count(&[Verdict::NotMeasured]),
    ))
}

fn read(from: &Path) -> Result<Vec<Figure>, Failure> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", from.display());
    let text = fs::read_to_string(from).map_err(|error| told(&error))?;
    Figure::read(&text).map_err(|error| told(&error).into())
}

/// Plots by the name of their file.
type Plots = BTreeMap<String, String>;

/// The sections of the scenarios that were measured, in the order of the page; one that nobody described comes last.
fn drawn(figures: &[Figure], folder: &str) -> Result<(Vec<Section>, Plots), Failure> {
    let known = scenarios::SCENARIOS.map(|(name, _)| name);
    let mut names: Vec<&str> = known.to_vec();
    for figure in figures {
        if !names.contains(&figure.scenario.as_str()) {
            names.push(&figure.scenario);
        }
    }
    let (mut sections, mut files) = (Vec::new(), Plots::new());
    for name in names {
        let of: Vec<Figure> = figures.iter().filter(|figure| figure.scenario == name).cloned().collect();
        if of.is_empty() {
            continue;
        }
        let mut images = Vec::new();
        // The items of other queues have nothing in common that a plot could show.
        let plotted = if name == floors::PEERS { Vec::new() } else { plots::of(&of) };
        for plot in plotted {
            let file = format!("{name}-{}.svg", plot.kind);
            images.push((plot.title.clone(), format!("{folder}/{file}")));
            files.insert(file, plot.svg()?);
        }
        let described = scenarios::SCENARIOS.iter().find(|(scenario, _)| *scenario == name);
        let what = described.map(|(_, what)| (*what).to_owned()).unwrap_or_default();
        sections.push(Section { name: name.to_owned(), what, figures: of, images });
    }
    Ok((sections, files))
}

/// The folder holds these plots and no others.
fn replace(folder: &Path, plots: &Plots) -> Result<(), Failure> {
    let told = |error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(told)?;
    for entry in fs::read_dir(folder).map_err(told)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            fs::remove_file(path)?;
        }
    }
    for (file, svg) in plots {
        fs::write(folder.join(file), svg).map_err(told)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
