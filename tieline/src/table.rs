//! Tables for people: with headers, numbers aligned to the right, and no line wider than the
//! terminal. Names are shortened in the middle if there is no room; figures never are.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::wrapped;

/// One column of a [`Table`].
#[derive(Debug, Clone)]
pub struct Column {
    header: Cow<'static, str>,
    kind: Kind,
    /// Whether the column is left out if the table would be too wide.
    optional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Name,
    Number,
}

impl Column {
    /// A column of words from a known, short list; they are never shortened.
    #[must_use]
    pub const fn text(header: &'static str) -> Self {
        Self { header: Cow::Borrowed(header), kind: Kind::Text, optional: false }
    }

    /// A column of names chosen by others; only these cells are shortened.
    #[must_use]
    pub const fn name(header: &'static str) -> Self {
        Self { header: Cow::Borrowed(header), kind: Kind::Name, optional: false }
    }

    #[must_use]
    pub const fn number(header: &'static str) -> Self {
        Self { header: Cow::Borrowed(header), kind: Kind::Number, optional: false }
    }

    /// A column of figures whose header is a name chosen by others; that header is shortened if the
    /// figures leave no room.
    #[must_use]
    pub fn number_named(header: &str) -> Self {
        let header = shortened(&printable(header), LEAST_NAME);
        Self { header: header.into(), kind: Kind::Number, optional: false }
    }

    /// Allows to leave the column out if there is no room; of several such columns, the last is
    /// left out first.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// The minimum width of the column if names have `least_name`; `natural` is the width of its
    /// widest cell.
    fn least(&self, natural: usize, least_name: usize) -> usize {
        match self.kind {
            Kind::Name => natural.min(least_name.max(self.header.width())),
            Kind::Text | Kind::Number => natural,
        }
    }
}

/// The minimum width of a shortened name.
const LEAST_NAME: usize = 10;
/// The minimum width of a shortened name while the table still has optional columns: before names
/// get shorter than this, such a column is left out.
const GOOD_NAME: usize = 18;
const BETWEEN: &str = "  ";
const NOTE_INDENT: usize = 4;

/// Rows of cells below headers.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    /// A text below the row before it, across all columns.
    Note(String),
}

/// A table as text, and the columns that were left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The lines, each with its newline.
    pub text: String,
    /// The headers of the columns that were left out.
    pub left_out: Vec<String>,
}

impl Table {
    #[must_use]
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row with one cell for each column. Control characters in it are escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let row: Vec<String> = cells.into_iter().map(|cell| printable(cell.as_ref())).collect();
        debug_assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        self.rows.push(Row::Cells(row));
    }

    /// Adds a text below the newest row: indented, wrapped, and never shortened.
    pub fn note(&mut self, text: &str) {
        self.rows.push(Row::Note(printable(text)));
    }

    fn cells(&self, index: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(move |row| match row {
            Row::Cells(cells) => cells.get(index).map(String::as_str),
            Row::Note(_) => None,
        })
    }

    /// Renders the table in `width` columns. Columns without a value in any row are left out.
    #[must_use]
    pub fn render(&self, width: usize) -> Rendered {
        let natural = |index: usize| {
            self.cells(index)
                .map(UnicodeWidthStr::width)
                .max()
                .unwrap_or(0)
                .max(self.columns[index].header.width())
        };
        let said =
            |index: &usize| self.rows.is_empty() || self.cells(*index).any(|cell| !cell.is_empty());
        // The columns shown, each with its width.
        let mut shown: Vec<(usize, usize)> =
            (0..self.columns.len()).filter(said).map(|index| (index, natural(index))).collect();
        let gaps = |columns: usize| columns.saturating_sub(1) * BETWEEN.len();
        let mut left_out = Vec::new();
        loop {
            let least =
                |&(index, natural): &(usize, usize)| self.columns[index].least(natural, GOOD_NAME);
            if shown.iter().map(least).sum::<usize>() + gaps(shown.len()) <= width {
                break;
            }
            let Some(last) = shown.iter().rposition(|(index, _)| self.columns[*index].optional)
            else {
                break;
            };
            left_out.insert(0, self.columns[shown.remove(last).0].header.to_string());
        }
        while shown.iter().map(|(_, width)| width).sum::<usize>() + gaps(shown.len()) > width {
            let widest = shown
                .iter_mut()
                .filter(|(index, width)| *width > self.columns[*index].least(*width, LEAST_NAME))
                .max_by_key(|(_, width)| *width);
            let Some((_, width)) = widest else { break };
            *width -= 1;
        }
        let mut text = String::new();
        let headers: Vec<&str> = self.columns.iter().map(|column| &*column.header).collect();
        self.line(&mut text, &shown, &headers);
        for row in &self.rows {
            match row {
                Row::Cells(cells) => {
                    let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
                    self.line(&mut text, &shown, &cells);
                }
                Row::Note(note) => text.push_str(&wrapped(note, width, NOTE_INDENT)),
            }
        }
        Rendered { text, left_out }
    }

    fn line(&self, text: &mut String, shown: &[(usize, usize)], cells: &[&str]) {
        let mut line = String::new();
        for (place, &(index, width)) in shown.iter().enumerate() {
            if place > 0 {
                line.push_str(BETWEEN);
            }
            let cell = shortened(cells[index], width);
            let fill = " ".repeat(width.saturating_sub(cell.width()));
            if self.columns[index].kind == Kind::Number {
                line.push_str(&fill);
                line.push_str(&cell);
            } else {
                line.push_str(&cell);
                line.push_str(&fill);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Shortens a text in the middle to at most `width` columns: both ends of a machine's name identify
/// it.
#[must_use]
pub fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let keep = width.saturating_sub(1);
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| -> Vec<char> {
        let mut left = room;
        chars
            .take_while(|c| {
                let wide = c.width().unwrap_or(0);
                let fits = wide <= left;
                left = left.saturating_sub(wide);
                fits
            })
            .collect()
    };
    let start = take(&mut text.chars(), keep.div_ceil(2));
    let taken: usize = start.iter().filter_map(|c| c.width()).sum();
    let end = take(&mut text.chars().rev(), keep - taken);
    start.into_iter().chain(['…']).chain(end.into_iter().rev()).collect()
}

/// Escapes everything that would move the cursor, change colours or reorder the output: miners
/// choose their own names and user agents.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match c {
            '"' | '\'' | '\\' => safe.push(c),
            _ => safe.extend(c.escape_debug()),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::name("worker"),
            Column::number("shares"),
            Column::text("state"),
            Column::name("user agent").optional(),
        ]);
        table.row(["acme.container-17.rack-03.slot-0042", "1,234,567", "working", "bosminer/0.9"]);
        table.row(["b", "7", "parked", ""]);
        table
    }

    #[test]
    fn everything_is_shown_where_there_is_room() {
        let rendered = table().render(80);
        insta::assert_snapshot!(rendered.text, @r"
        worker                                  shares  state    user agent
        acme.container-17.rack-03.slot-0042  1,234,567  working  bosminer/0.9
        b                                            7  parked
        ");
        assert!(rendered.left_out.is_empty());
    }

    #[test]
    fn names_are_shortened_in_the_middle_and_figures_never() {
        let rendered = table().render(60);
        insta::assert_snapshot!(rendered.text, @r"
        worker                         shares  state    user agent
        acme.containe…03.slot-0042  1,234,567  working  bosminer/0.9
        b                                   7  parked
        ");
        assert!(rendered.text.lines().all(|line| line.width() <= 60));
    }

    #[test]
    fn optional_columns_go_when_names_cannot_be_shorter() {
        let rendered = table().render(40);
        assert_eq!(rendered.left_out, ["user agent"]);
        assert!(rendered.text.lines().all(|line| line.width() <= 40), "{}", rendered.text);
        assert!(rendered.text.contains("1,234,567"));
    }

    #[test]
    fn what_cannot_shrink_stays_whole() {
        let rendered = table().render(10);
        assert!(rendered.text.contains("1,234,567"), "{}", rendered.text);
    }

    #[test]
    fn a_column_that_says_nothing_is_left_out() {
        let mut table = Table::new([Column::name("lease"), Column::text("flags")]);
        table.row(["nebula-7", ""]);
        assert_eq!(table.render(80).text, "lease\nnebula-7\n");
    }

    #[test]
    fn what_miners_call_themselves_cannot_touch_the_terminal() {
        let mut table = Table::new([Column::name("worker"), Column::name("user agent")]);
        table.row(["\u{1b}[2Jrig", "a\nb\u{202e}c\\d\"e"]);
        let text = table.render(80).text;
        assert!(text.contains(r"\u{1b}[2Jrig"), "{text}");
        assert!(text.contains(r#"a\nb\u{202e}c\d"e"#), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        assert_eq!(shortened("机机机机机", 7), "机…机机");
        assert_eq!(shortened("abcdefgh", 5), "ab…gh");
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abc", 1), "…");
    }
}
