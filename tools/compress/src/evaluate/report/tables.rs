//! Tables of what was taken for what, and of each class.

use super::super::classes::{self, ClassCount, Pairs};
use super::{Input, MOST_ROWS, label, percent, some_of};
use crate::page::{Cell, Page, Tone};
use crate::statistics::wilson;

/// Most classes of which the whole confusion matrix is shown.
const WHOLE_MATRIX: usize = 20;
/// Most classes whose names head the columns of that matrix.
const NAMED_COLUMNS: usize = 6;
/// Rows of a table before the rest is folded away.
const ROWS: usize = 15;

/// What is taken for what: all of it, or what happens most.
pub(super) fn confusion(page: &mut Page, input: &Input<'_>) {
    let pairs = classes::confusions(input.samples, input.evaluation);
    page.section("Confusions");
    let counts = classes::count(input.samples, input.evaluation);
    let classes = counts.len();
    if classes <= WHOLE_MATRIX {
        return matrix(page, input, &counts, &pairs);
    }
    let mut wrong: Vec<_> = pairs.into_iter().filter(|((from, to), _)| from != to).collect();
    wrong.sort_by_key(|&(pair, n)| (std::cmp::Reverse(n), pair));
    page.paragraph(&format!(
        "What is most often taken for what ({} classes occur, too many for a matrix){}.",
        classes,
        some_of(wrong.len().min(ROWS), wrong.len())
    ));
    let row = |&((from, to), n): &((usize, usize), usize)| {
        let of = counts.iter().find(|c| c.class == from).map_or(0, |c| c.n);
        vec![
            Cell::text(label(input, from)),
            Cell::text(label(input, to)),
            Cell::number(n),
            Cell::number(format!("of {of}")),
        ]
    };
    let rows: Vec<_> = wrong.iter().take(ROWS).map(row).collect();
    page.table(&["truth", "answer", "pictures", ""], &rows);
}

/// A row a class and a column an answer; where names would make it too wide, numbers stand for them.
fn matrix(page: &mut Page, input: &Input<'_>, counts: &[ClassCount], pairs: &Pairs) {
    let numbered = counts.len() > NAMED_COLUMNS;
    let name = |(at, c): (usize, &ClassCount)| {
        let name = label(input, c.class);
        if numbered { format!("{}  {name}", at + 1) } else { name }
    };
    let names: Vec<String> = counts.iter().enumerate().map(name).collect();
    let short = |(at, name): (usize, &String)| {
        if numbered { (at + 1).to_string() } else { name.clone() }
    };
    let columns: Vec<String> = names.iter().enumerate().map(short).collect();
    let headings: Vec<&str> =
        std::iter::once("truth \\ answer").chain(columns.iter().map(String::as_str)).collect();
    let row = |(truth, name): (&ClassCount, &String)| {
        let cell = |answer: &ClassCount| {
            let (from, to) = (truth.class, answer.class);
            let n = pairs.get(&(from, to)).copied().unwrap_or(0);
            let share = n as f32 / truth.n.max(1) as f32;
            let tone = if from == to { Tone::Good } else { Tone::Bad };
            let cell = Cell::number(if n == 0 { "·".to_owned() } else { n.to_string() });
            if n > 0 { cell.shaded(tone, share) } else { cell }
        };
        std::iter::once(Cell::text(name)).chain(counts.iter().map(cell)).collect()
    };
    page.table(&headings, &counts.iter().zip(&names).map(row).collect::<Vec<Vec<Cell>>>());
}

/// A row a class, the worst first.
pub(super) fn per_class(page: &mut Page, input: &Input<'_>) {
    page.section("Classes");
    let mut counts = classes::count(input.samples, input.evaluation);
    counts.retain(|c| c.n > 0);
    // Worst first; of equals those that more pictures speak for.
    let order = |c: &ClassCount| (c.right as f64 / c.n.max(1) as f64, std::cmp::Reverse(c.n));
    counts.sort_by(|a, b| {
        let (a, b) = (order(a), order(b));
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
    });
    let headings =
        ["class", "pictures", "right", "recall", "95 %", "precision", "mostly taken for"];
    let row = |c: &ClassCount| {
        let share = c.right as f64 / c.n.max(1) as f64;
        let (low, high) = wilson(c.right, c.n);
        let precision = if c.answered == 0 { "–".into() } else { percent(c.precision()) };
        let other = c
            .mostly
            .map_or_else(String::new, |(class, n)| format!("{} ({n})", label(input, class)));
        vec![
            Cell::text(label(input, c.class)),
            Cell::number(c.n),
            Cell::number(c.right),
            Cell::number(percent(share)).shaded(Tone::Bad, (1.0 - share) as f32),
            Cell::number(format!("{:.0} to {:.0}", 100.0 * low, 100.0 * high)),
            Cell::number(precision),
            Cell::text(other),
        ]
    };
    let rows: Vec<_> = counts.iter().take(MOST_ROWS).map(row).collect();
    let (first, rest) = rows.split_at(rows.len().min(ROWS));
    page.paragraph("The worst first. Few pictures a class say little: mind the intervals.");
    page.table(&headings, first);
    if !rest.is_empty() {
        page.fold(&format!("{} more classes", rest.len()));
        page.table(&headings, rest);
        page.unfold();
    }
}
