//! The report: a page with a miss-ratio curve for each trace, readable by day and by night, and the table of all figures.

use std::fmt::Write;
use std::path::Path;

use aether::Error;
use aether::replay::Cell;
use plotters::prelude::*;

use super::{means, named};
use crate::cli::Done;

/// Marker colours, to which the page's style sheet gives their meaning: one drawing serves light and dark.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
/// The first line's marker; each further one is one higher.
const LINE: u8 = 10;
/// Colours of lines by day and by night (Okabe and Ito's palette, which most colour-blind people can tell apart). Further lines repeat
/// them, dotted by their marks.
const COLOURS: [(&str, &str); 8] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#f0955a"),
    ("#009e73", "#35c99b"),
    ("#aa4499", "#cc79a7"),
    ("#8a6d00", "#f0e442"),
    ("#5b5bd6", "#a0a0ff"),
    ("#666666", "#aaaaaa"),
    ("#b3123b", "#ff7a93"),
];

const STYLE: &str = "
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 1.5rem 0; } svg { width: 100%; height: auto; } .keys span { margin-right: 1rem; white-space: nowrap; }
table { border-collapse: collapse; font-size: .9rem; } td, th { border-bottom: 1px solid var(--grid); padding: .2rem .6rem; text-align: right; }
td.name, th.name { text-align: left; } .scroll { overflow-x: auto; }
";

/// Writes the page.
pub(super) fn write(path: &Path, cells: &[Cell], by_bytes: bool) -> Done<()> {
    let page = page(cells, by_bytes)?;
    std::fs::write(path, page).map_err(|e| unwritable(path, e))
}

/// Whether the folder is there, so that a wrong one is known before hours of work.
pub(super) fn check(path: &Path) -> Done<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    match folder.as_os_str().is_empty() || folder.is_dir() {
        true => Ok(()),
        false => Err(unwritable(path, std::io::ErrorKind::NotFound.into())),
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> crate::cli::Failure {
    crate::cli::io_failure(format_args!("write the report {}", path.display()), error)
}

/// What there is of one field, in order of first appearance.
fn distinct(cells: &[Cell], field: impl Fn(&Cell) -> String) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for cell in cells {
        let value = field(cell);
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

fn page(cells: &[Cell], by_bytes: bool) -> Done<String> {
    let policies = distinct(cells, named);
    let mut body = String::new();
    for trace in distinct(cells, |c| c.trace.clone()) {
        let svg = chart(&trace, cells, &policies)?;
        let keys: Vec<String> = policies
            .iter()
            .enumerate()
            .map(|(i, p)| key(i, p))
            .collect();
        put(
            &mut body,
            format_args!(
                "<h2>{}</h2>\n<figure><figcaption class=\"keys\">Object miss ratio by cache size, lower is better: {}</figcaption>{svg}</figure>\n",
                escaped(&trace),
                keys.join(" ")
            ),
        );
    }
    let of = if by_bytes {
        "the working set's bytes"
    } else {
        "the keys"
    };
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Policies on traces</title><style>{}{STYLE}</style></head><body>\n<h1>Policies on traces</h1>\n\
         <p>Every request is an access, a miss brings the row in if the policy admits it, cold misses count, and nothing is charged for \
         metadata. Cache sizes are shares of {of}. The gap is the way from <em>lru</em> to the offline limit <em>belady</em>: 1 is the \
         limit, 0 is <em>lru</em>, below 0 is worse.</p>\n{}{body}<h2>All figures</h2>\n{}</body></html>\n",
        colours(),
        summary(cells),
        table(cells)
    ))
}

/// Writing to a String cannot fail.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).unwrap_or_default();
}

fn colours() -> String {
    let set = |dark: bool| {
        let mut text = String::new();
        for (i, (day, night)) in COLOURS.iter().enumerate() {
            put(
                &mut text,
                format_args!("--line{i}: {}; ", if dark { night } else { day }),
            );
        }
        text
    };
    format!(
        "\n:root {{ color-scheme: light dark; --paper: #fcfcfa; --ink: #1f2328; --grid: #d8d8d2; {}}}\n\
         @media (prefers-color-scheme: dark) {{ :root {{ --paper: #16181c; --ink: #e3e3de; --grid: #3a3d44; {}}} }}",
        set(false),
        set(true)
    )
}

/// Sign of a line in the chart and beside its name: each round through the colours has its own.
fn sign(line: usize) -> &'static str {
    ["&#9679;", "&#9650;", "&#10005;"][line / COLOURS.len() % 3]
}

fn key(line: usize, policy: &str) -> String {
    format!(
        "<span style=\"color: var(--line{})\">{} {}</span>",
        line % COLOURS.len(),
        sign(line),
        escaped(policy)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn summary(cells: &[Cell]) -> String {
    let means = means(cells);
    if means.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<table><tr><th class=\"name\">policy</th><th>mean gap closed</th><th>worst</th><th>cells with a point of room</th></tr>\n",
    );
    for m in means {
        put(
            &mut text,
            format_args!(
                "<tr><td class=\"name\">{}</td><td>{:.3}</td><td>{:.3}</td><td>{}</td></tr>\n",
                escaped(&m.policy),
                m.mean,
                m.worst,
                m.cells
            ),
        );
    }
    text + "</table>\n"
}

fn table(cells: &[Cell]) -> String {
    let mut text = String::from(
        "<div class=\"scroll\"><table><tr><th class=\"name\">trace</th><th>cache</th><th>size</th><th class=\"name\">policy</th>\
         <th>object misses</th><th>byte misses</th><th>moves an access</th><th>metadata bytes an item</th><th>ns an access</th>\
         <th>gap closed</th><th>importance missed</th></tr>\n",
    );
    let maybe = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.3}"));
    for c in cells {
        put(
            &mut text,
            format_args!(
                "<tr><td class=\"name\">{}</td><td>{:.3} %</td><td>{}</td><td class=\"name\">{}</td><td>{:.6}</td><td>{:.6}</td>\
                 <td>{:.4}</td><td>{:.1}</td><td>{:.0}</td><td>{}</td><td>{}</td></tr>\n",
                escaped(&c.trace),
                c.cache_fraction * 100.0,
                c.cache_size,
                escaped(&named(c)),
                c.object_miss_ratio,
                c.byte_miss_ratio,
                c.moves_per_access,
                c.metadata_bytes_per_item,
                c.ns_per_access,
                maybe(c.gap_closed),
                maybe(c.importance_miss_ratio)
            ),
        );
    }
    text + "</table></div>\n"
}

/// Draws one trace's curves as SVG, over the logarithm of the cache size.
fn chart(trace: &str, cells: &[Cell], policies: &[String]) -> Done<String> {
    let mine: Vec<&Cell> = cells.iter().filter(|c| c.trace == trace).collect();
    let curve = |policy: &String| {
        let of = mine.iter().filter(|c| named(c) == *policy);
        let mut points: Vec<(f64, f64)> = of
            .map(|c| (c.cache_fraction.log10(), c.object_miss_ratio))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let curves: Vec<Vec<(f64, f64)>> = policies.iter().map(curve).collect();
    let mut svg = String::new();
    draw(&mut svg, &curves).map_err(|e| Error::internal(format!("cannot draw {trace:?}: {e}")))?;
    let marker = |c: u8| format!("\"#{c:02X}{c:02X}{c:02X}\"");
    svg = svg.replace(&marker(INK.0), "\"var(--ink)\"");
    svg = svg.replace(&marker(GRID.0), "\"var(--grid)\"");
    for i in 0..COLOURS.len() {
        svg = svg.replace(&marker(LINE + i as u8), &format!("\"var(--line{i})\""));
    }
    Ok(svg)
}

fn draw(svg: &mut String, curves: &[Vec<(f64, f64)>]) -> Result<(), Box<dyn std::error::Error>> {
    let xs = || curves.iter().flatten().map(|(x, _)| *x);
    let (first, last) = xs().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
        (a.min(x), b.max(x))
    });
    // A single size still gets an axis.
    let (first, last) = if first < last {
        (first, last)
    } else {
        (last - 0.5, last + 0.5)
    };
    let least = curves.iter().flatten().map(|(_, y)| *y).fold(1.0, f64::min);
    let bottom = (least * 10.0).floor() / 10.0;
    let root = SVGBackend::with_string(svg, (900, 360)).into_drawing_area();
    let text = ("sans-serif", 14).into_font().color(&INK);
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(first..last, bottom..1.0)?;
    chart
        .configure_mesh()
        .x_desc("cache size, % (logarithmic)")
        .y_desc("miss ratio")
        .label_style(text.clone())
        .axis_desc_style(text)
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|x| format!("{:.3}", 10_f64.powf(*x) * 100.0))
        .y_label_formatter(&|y| format!("{y:.2}"))
        .draw()?;
    for (i, curve) in curves.iter().enumerate() {
        let tone = LINE + (i % COLOURS.len()) as u8;
        let colour = RGBColor(tone, tone, tone);
        chart.draw_series(LineSeries::new(
            curve.iter().copied(),
            colour.stroke_width(2),
        ))?;
        let points = curve.iter().copied();
        match i / COLOURS.len() % 3 {
            0 => chart.draw_series(points.map(|p| Circle::new(p, 4, colour.filled())))?,
            1 => chart.draw_series(points.map(|p| TriangleMarker::new(p, 6, colour.filled())))?,
            _ => chart.draw_series(points.map(|p| Cross::new(p, 4, colour.stroke_width(2))))?,
        };
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(trace: &str, policy: &str, fraction: f64, missed: f64) -> Cell {
        Cell {
            trace: trace.to_owned(),
            policy: policy.to_owned(),
            cache_fraction: fraction,
            cache_size: 10,
            object_miss_ratio: missed,
            byte_miss_ratio: missed,
            moves_per_access: 1.0,
            promotions_per_access: 0.5,
            signal: "keys",
            wishes_per_access: None,
            wishes_used: None,
            metadata_bytes_per_item: 40.0,
            ns_per_access: 50.0,
            gap_closed: Some(0.25),
            gap_room: Some(0.2),
            importance_miss_ratio: None,
            too_large: 0,
        }
    }

    #[test]
    fn a_page_has_a_curve_for_each_policy_in_colours_of_the_page() {
        let cells: Vec<Cell> = (0..11)
            .flat_map(|p| {
                let name = format!("policy-{p}");
                [(0.01, 0.8), (0.1, 0.5)].map(|(f, m)| cell("a<b", &name, f, m))
            })
            .collect();
        let page = page(&cells, false).unwrap();
        let strokes = page.split("<polyline").skip(1).filter(|line| {
            let tag = line.split('>').next().unwrap_or_default();
            tag.contains("var(--line")
        });
        assert_eq!(strokes.count(), 11, "a curve for each policy");
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("a&lt;b") && !page.contains("a<b"));
        assert!(!page.contains("#0A0A0A") && !page.contains("NaN"), "{page}");
        assert_eq!(page.matches("<td class=\"name\">policy-").count(), 22 + 11);
    }

    #[test]
    fn one_size_alone_is_still_a_chart() {
        let page = page(&[cell("t", "lru", 0.1, 1.0)], true).unwrap();
        assert!(page.contains("</svg>") && !page.contains("NaN"));
    }
}
