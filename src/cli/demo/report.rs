//! The report: one page with its charts inside, readable by day and by night.
//!
//! Charts are drawn with marker colours that the page's style sheet gives their meaning, so that one drawing serves light and
//! dark.

use std::fmt::Write;
use std::path::Path;

use aether::Error;
use aether::role::Tier;
use plotters::prelude::*;

use super::Found;
use super::replay::Sample;
use crate::cli::{Done, output};

/// Marker colour and what the page makes of it.
const MARKERS: [(RGBColor, &str); 4] = [
    (RGBColor(1, 1, 1), "var(--ink)"),
    (RGBColor(2, 2, 2), "var(--grid)"),
    (RGBColor(3, 3, 3), "var(--first)"),
    (RGBColor(4, 4, 4), "var(--second)"),
];
const INK: RGBColor = MARKERS[0].0;
const GRID: RGBColor = MARKERS[1].0;
const FIRST: RGBColor = MARKERS[2].0;
const SECOND: RGBColor = MARKERS[3].0;

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #fcfcfa; --ink: #1f2328; --grid: #d8d8d2; --first: #1668a8; --second: #c2571a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e3e3de; --grid: #3a3d44; --first: #62b0e8; --second: #f0955a; }
}
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 1.5rem 0; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--grid); padding: .25rem .75rem; text-align: right; }
td:first-child, th:first-child { text-align: left; }
blockquote { margin: .4rem 0 .4rem 1rem; } .tier { opacity: .7; font-size: .9em; } pre { white-space: pre-wrap; }
.key1 { color: var(--first); } .key2 { color: var(--second); }
";

/// A line of a chart.
struct Line<'a> {
    name: &'a str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Writes the page.
pub(super) fn write(path: &Path, found: &Found, samples: &[Sample]) -> Done<()> {
    let page = page(found, samples)?;
    std::fs::write(path, page)
        .map_err(|e| crate::cli::io_failure(format_args!("write the report {}", path.display()), e))
}

fn page(found: &Found, samples: &[Sample]) -> Done<String> {
    let line = |name, colour, value: &dyn Fn(&Sample) -> f64| Line {
        name,
        colour,
        points: samples.iter().map(|s| (s.at_s, value(s))).collect(),
    };
    const MIB: f64 = 1_048_576.0;
    let hot = [
        line("bytes of the hot tier", FIRST, &|s| {
            s.hot_bytes as f64 / MIB
        }),
        line("allowed", SECOND, &|s| s.budget_bytes as f64 / MIB),
    ];
    let temperature = [line("temperature", SECOND, &|s| s.temperature)];
    let (demoted, promoted) = samples.first().map_or((0, 0), |s| (s.demoted, s.promoted));
    let moves = [
        line("demoted", FIRST, &|s| (s.demoted - demoted) as f64),
        line("promoted", SECOND, &|s| (s.promoted - promoted) as f64),
    ];
    let hits = [Line {
        name: "answers from RAM",
        colour: FIRST,
        points: smoothed(samples),
    }];
    let mut body = String::new();
    for (title, unit, lines) in [
        ("The hot tier and its budget", "MiB", &hot[..]),
        ("How eagerly rows move", "temperature", &temperature[..]),
        ("Rows moved since the stream began", "rows", &moves[..]),
        (
            "Share of the answers that came from RAM, over the last second",
            "%",
            &hits[..],
        ),
    ] {
        let keys: Vec<String> = lines
            .iter()
            .map(|l| {
                format!(
                    "<span class=\"{}\">&#9644; {}</span>",
                    if l.colour == FIRST { "key1" } else { "key2" },
                    l.name
                )
            })
            .collect();
        let svg = chart(title, unit, lines)?;
        put(
            &mut body,
            format_args!(
                "<figure><figcaption>{title} ({}).</figcaption>{svg}</figure>\n",
                keys.join(", ")
            ),
        );
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>A tiered memory at work</title><style>{STYLE}</style></head><body>\n<h1>A tiered memory at work</h1>\n\
         <p><strong>{}</strong></p>\n{}\n<h2>While the stream ran</h2>\n<p>Half-way the interest changes: other questions become the \
         popular ones.</p>\n{body}{}</body></html>\n",
        escaped(&found.verdict),
        figures(found),
        words(found)
    ))
}

/// Writing to a String cannot fail.
fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).unwrap_or_default();
}

fn figures(f: &Found) -> String {
    let mut t = String::from(
        "<table><tr><th>search</th><th>recall@10</th><th>as asked in the stream</th><th>p50</th><th>p99</th></tr>\n",
    );
    let (r, s, a, b) = (&f.recall, &f.recall_in_stream, &f.p50_us, &f.p99_us);
    for (name, r, s, a, b) in [
        ("hot only", r.hot_only, s.hot_only, a.hot_only, b.hot_only),
        ("bounded", r.bounded, s.bounded, a.bounded, b.bounded),
        ("complete", r.complete, s.complete, a.complete, b.complete),
    ] {
        let (a, b) = (a / 1e3, b / 1e3);
        put(
            &mut t,
            format_args!(
                "<tr><td>{name}</td><td>{r:.3}</td><td>{s:.3}</td><td>{a:.2} ms</td><td>{b:.2} ms</td></tr>\n"
            ),
        );
    }
    put(
        &mut t,
        format_args!(
            "</table>\n<p>{} points of {} dimensions, policy {}. In RAM: {} rows, {} of {} allowed. Cold only: {} rows, {} in the cold \
             store. As plain floats all vectors are {}. {:.1} % of the stream's answers came from RAM. {} kills of a child process, {} \
             in mid-migration: {} of {} acknowledged points lost.</p>",
            f.points,
            f.dim,
            escaped(&f.policy),
            f.hot_rows,
            output::bytes(f.hot_bytes),
            output::bytes(f.budget_bytes),
            f.cold_rows,
            output::bytes(f.cold_bytes),
            output::bytes(f.raw_bytes),
            f.hot_hit_rate * 100.0,
            f.crash.kills,
            f.crash.in_migration,
            f.crash.lost,
            f.crash.acknowledged
        ),
    );
    t
}

fn words(f: &Found) -> String {
    let mut t = String::from("<h2>Three questions</h2>\n");
    for example in &f.examples {
        put(
            &mut t,
            format_args!("<h3>{}</h3>\n", escaped(&example.question)),
        );
        for q in &example.answers {
            let tier = if q.tier == Tier::Hot {
                "from RAM"
            } else {
                "from the cold store"
            };
            put(
                &mut t,
                format_args!(
                    "<blockquote>{} <span class=\"tier\">{}, {tier}, distance {:.3}</span></blockquote>\n",
                    escaped(&output::shortened(&q.text, 300)),
                    escaped(&q.speaker),
                    q.distance
                ),
            );
        }
    }
    t.push_str("<h2>Why is it there?</h2>\n");
    for explained in [&f.explain_hot, &f.explain_cold].into_iter().flatten() {
        put(
            &mut t,
            format_args!("<pre>{}</pre>\n", escaped(&explained.to_string())),
        );
    }
    t
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The hit rate over the last second at each sample with answers.
fn smoothed(samples: &[Sample]) -> Vec<(f64, f64)> {
    let rate = |s: &Sample| super::replay::hit_rate(samples, s.at_s - 1.0, s.at_s) * 100.0;
    samples
        .iter()
        .filter(|s| s.answers > 0)
        .map(|s| (s.at_s, rate(s)))
        .collect()
}

/// Draws one chart as SVG.
fn chart(title: &str, unit: &str, lines: &[Line<'_>]) -> Done<String> {
    let all = || lines.iter().flat_map(|l| l.points.iter().copied());
    let end = all().map(|(x, _)| x).fold(1.0, f64::max);
    let top = all().map(|(_, y)| y).fold(0.0, f64::max);
    let top = if unit == "%" {
        100.0
    } else if top > 0.0 {
        top * 1.08
    } else {
        1.0
    };
    let mut svg = String::new();
    let drawn = draw(&mut svg, unit, lines, end, top);
    drawn.map_err(|e| Error::internal(format!("cannot draw {title:?}: {e}")))?;
    for (colour, meaning) in MARKERS {
        let marker = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
        svg = svg.replace(&format!("\"{marker}\""), &format!("\"{meaning}\""));
    }
    Ok(svg)
}

fn draw(
    svg: &mut String,
    unit: &str,
    lines: &[Line<'_>],
    end: f64,
    top: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (900, 260)).into_drawing_area();
    let text = ("sans-serif", 14).into_font().color(&INK);
    let mut chart = ChartBuilder::on(&root)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc(unit)
        .label_style(text.clone())
        .axis_desc_style(text)
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| {
            if top >= 20.0 {
                format!("{y:.0}")
            } else {
                format!("{y:.2}")
            }
        })
        .draw()?;
    for line in lines {
        chart.draw_series(LineSeries::new(
            line.points.iter().copied(),
            line.colour.stroke_width(2),
        ))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_line_and_takes_its_colours_from_the_page() {
        let line = Line {
            name: "a",
            colour: FIRST,
            points: vec![(0.0, 1.0), (1.0, 2.0), (2.0, 0.5)],
        };
        let svg = chart("t", "rows", &[line]).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(
            svg.contains("polyline") && svg.contains("var(--first)") && svg.contains("var(--ink)"),
            "{svg}"
        );
        assert!(!svg.contains("#030303") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn a_chart_of_nothing_is_still_a_chart() {
        let line = Line {
            name: "a",
            colour: FIRST,
            points: Vec::new(),
        };
        assert!(chart("t", "%", &[line]).unwrap().contains("</svg>"));
    }

    #[test]
    fn what_comes_from_data_cannot_become_markup() {
        assert_eq!(escaped("<b>&"), "&lt;b&gt;&amp;");
    }
}
