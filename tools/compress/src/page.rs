//! A report as one HTML page that needs nothing else: no script, no file beside it, no network.
//!
//! [`Page`] is written from top to bottom: a headline, then sections of figures, tables, charts and
//! pictures. Light or dark as the reader's system is, readable from 360 pixels of width. All text is
//! escaped here; only [`Page::chart`] takes markup, which is our own.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, RgbImage};
use kinglet_engine::Picture;

/// The look of every page. Charts use the colours of [`INK`], [`GRID`], [`ACCENT`] and [`SECOND`],
/// which are replaced here by those of the theme.
const STYLE: &str = include_str!("page.css");
/// Colour of a chart's text and axes, as `#rrggbb`.
pub const INK: &str = "#404349";
/// Colour of a chart's grid.
pub const GRID: &str = "#D0D3D9";
/// Colour of a chart's first series.
pub const ACCENT: &str = "#2468CE";
/// Colour of a chart's second series.
pub const SECOND: &str = "#C8590F";
/// Quality of pictures in a page, 1..=100.
const QUALITY: u8 = 80;

/// A page that grows from top to bottom.
#[derive(Debug, Clone)]
pub struct Page {
    html: String,
    in_section: bool,
}

/// What a shaded cell or a marked card says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    text: String,
    number: bool,
    shade: Option<(Tone, f32)>,
}

impl Cell {
    /// Text, on the left.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: false, shade: None }
    }

    /// A number, on the right.
    pub fn number(text: impl ToString) -> Self {
        Self { text: text.to_string(), number: true, shade: None }
    }

    /// The cell with a background as strong as `share`, 0..=1.
    #[must_use]
    pub fn shaded(self, tone: Tone, share: f32) -> Self {
        Self { shade: Some((tone, share.clamp(0.0, 1.0))), ..self }
    }
}

/// A picture with text under it.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// What [`data_uri`] made.
    pub uri: String,
    /// The first line, strong; also the picture's description for those who do not see it.
    pub title: String,
    /// Lines under it.
    pub lines: Vec<String>,
    /// Colour of the edge.
    pub tone: Option<Tone>,
}

impl Page {
    /// A page with its headline and one sentence under it.
    #[must_use]
    pub fn new(title: &str, subtitle: &str) -> Self {
        let (title, subtitle) = (escape(title), escape(subtitle));
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n\
             <p>{subtitle}</p>\n</header>\n<main>\n"
        );
        Self { html, in_section: false }
    }

    /// Starts a section.
    pub fn section(&mut self, heading: &str) {
        self.end_section();
        self.in_section = true;
        _ = writeln!(self.html, "<section>\n<h2>{}</h2>", escape(heading));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        _ = writeln!(self.html, "<p>{}</p>", escape(text));
    }

    /// A command that the reader may type, or other text as it is.
    pub fn code(&mut self, text: &str) {
        _ = writeln!(self.html, "<pre><code>{}</code></pre>", escape(text));
    }

    /// Figures that matter most, side by side: name, value, and a remark that may be empty.
    pub fn figures(&mut self, figures: &[(&str, String, String)]) {
        self.html += "<dl class=\"figures\">\n";
        for (name, value, remark) in figures {
            let (name, value, remark) = (escape(name), escape(value), escape(remark));
            _ = write!(self.html, "<div><dt>{name}</dt><dd>{value}</dd>");
            if !remark.is_empty() {
                _ = write!(self.html, "<dd class=\"remark\">{remark}</dd>");
            }
            self.html += "</div>\n";
        }
        self.html += "</dl>\n";
    }

    /// A table; it scrolls sideways by itself where it is too wide. The headings of columns whose
    /// first cell is a number stand on the right, as the numbers do.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<Cell>]) {
        self.html += "<div class=\"wide\"><table>\n<thead><tr>";
        for (at, heading) in headings.iter().enumerate() {
            let number = rows.first().and_then(|r| r.get(at)).is_some_and(|c| c.number);
            let class = if number { " class=\"number\"" } else { "" };
            _ = write!(self.html, "<th{class}>{}</th>", escape(heading));
        }
        self.html += "</tr></thead>\n<tbody>\n";
        for row in rows {
            self.html += "<tr>";
            for cell in row {
                self.cell(cell);
            }
            self.html += "</tr>\n";
        }
        self.html += "</tbody>\n</table></div>\n";
    }

    fn cell(&mut self, cell: &Cell) {
        let mut classes = Vec::new();
        let mut style = String::new();
        if cell.number {
            classes.push("number");
        }
        if let Some((tone, share)) = cell.shade {
            classes.extend(["shade", tone.class()]);
            style = format!(" style=\"--share:{:.0}%\"", share * 60.0);
        }
        let class = match classes.as_slice() {
            [] => String::new(),
            classes => format!(" class=\"{}\"", classes.join(" ")),
        };
        _ = write!(self.html, "<td{class}{style}>{}</td>", escape(&cell.text));
    }

    /// What follows is folded away under a line of text, until [`Page::unfold`].
    pub fn fold(&mut self, summary: &str) {
        _ = writeln!(self.html, "<details>\n<summary>{}</summary>", escape(summary));
    }

    /// Ends what [`Page::fold`] began.
    pub fn unfold(&mut self) {
        self.html += "</details>\n";
    }

    /// A chart as SVG markup, which is not escaped, and a caption.
    pub fn chart(&mut self, svg: &str, caption: &str) {
        let caption = escape(caption);
        _ = writeln!(
            self.html,
            "<figure class=\"chart\">\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>"
        );
    }

    /// Pictures side by side.
    pub fn gallery(&mut self, cards: &[Card]) {
        self.html += "<div class=\"gallery\">\n";
        for Card { uri, title, lines, tone } in cards {
            let tone = tone.map_or("", Tone::class);
            let (uri, title) = (escape(uri), escape(title));
            _ = write!(
                self.html,
                "<figure class=\"card {tone}\"><img src=\"{uri}\" alt=\"{title}\" loading=\"lazy\">\
                 <figcaption><strong>{title}</strong>"
            );
            for line in lines {
                _ = write!(self.html, "<br>{}", escape(line));
            }
            self.html += "</figcaption></figure>\n";
        }
        self.html += "</div>\n";
    }

    fn end_section(&mut self) {
        if std::mem::take(&mut self.in_section) {
            self.html += "</section>\n";
        }
    }

    /// The whole page, with a last line that says what made it.
    #[must_use]
    pub fn finish(mut self, made_by: &str) -> String {
        self.end_section();
        _ = writeln!(self.html, "</main>\n<footer>{}</footer>\n</body>\n</html>", escape(made_by));
        self.html
    }
}

/// Text for HTML: between tags and inside quoted attributes.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// A picture as a `data:` URI: a JPEG whose longer side is at most `side` pixels. Some 4 KB at 160.
#[must_use]
pub fn data_uri(picture: &Picture, side: u32) -> String {
    let (width, height) = (picture.width(), picture.height());
    let longer = f64::from(width.max(height));
    let scale = (f64::from(side.max(1)) / longer).min(1.0);
    let to = |from: u32| ((f64::from(from) * scale).round() as u32).max(1);
    let mut bytes = Vec::new();
    let full = RgbImage::from_raw(width, height, picture.rgb().to_vec());
    let encoded = full.and_then(|full| {
        let small = imageops::resize(&full, to(width), to(height), FilterType::Triangle);
        JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .encode(small.as_raw(), small.width(), small.height(), ExtendedColorType::Rgb8)
            .ok()
    });
    // A picture always has samples, and writing to memory does not fail; an empty one shows its text.
    encoded.map_or_else(
        || "data:,".to_owned(),
        |()| format!("data:image/jpeg;base64,{}", STANDARD.encode(&bytes)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let hostile = "<script>alert(\"1\")</script>&'";
        let mut page = Page::new(hostile, hostile);
        page.section(hostile);
        page.paragraph(hostile);
        page.code(hostile);
        page.figures(&[(hostile, hostile.into(), hostile.into())]);
        page.table(&[hostile], &[vec![Cell::text(hostile)]]);
        page.fold(hostile);
        page.unfold();
        page.chart("<svg></svg>", hostile);
        let card = Card {
            uri: hostile.into(),
            title: hostile.into(),
            lines: vec![hostile.into()],
            tone: None,
        };
        page.gallery(&[card]);
        let html = page.finish(hostile);
        assert!(!html.contains("<script") && !html.contains("alert(\""), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"));
    }

    #[test]
    fn every_element_is_closed_and_nothing_is_loaded() {
        let mut page = Page::new("title", "");
        for heading in ["one", "two"] {
            page.section(heading);
            page.table(
                &["a", "b"],
                &[vec![Cell::text("x"), Cell::number(1.5).shaded(Tone::Bad, 2.0)]],
            );
            page.fold("more");
            page.figures(&[("n", "1".into(), String::new())]);
            page.unfold();
        }
        let html = page.finish("test");
        for name in ["section", "table", "tr", "td", "div", "details", "dl", "main", "html"] {
            let opened = html.matches(&format!("<{name}>")).count()
                + html.matches(&format!("<{name} ")).count();
            assert_eq!(opened, html.matches(&format!("</{name}>")).count(), "{name}");
        }
        assert!(html.contains("--share:60%"), "{html}");
        for outside in ["http", "src=\"/", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn pictures_are_made_small_and_readable() {
        let picture = Picture::from_rgb(400, 200, vec![200; 400 * 200 * 3]).unwrap();
        let uri = data_uri(&picture, 160);
        let bytes = STANDARD.decode(uri.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
        let small = Picture::decode(&bytes).unwrap();
        assert_eq!((small.width(), small.height()), (160, 80));
        assert!(small.rgb().iter().all(|v| v.abs_diff(200) < 4));
        let line = Picture::from_rgb(1000, 1, vec![9; 3000]).unwrap();
        assert!(data_uri(&line, 10).starts_with("data:image/jpeg"));
    }
}
