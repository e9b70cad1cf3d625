//! Columns of text.

use std::fmt;

/// The widest a column gets; longer cells are cut, but for the last column's.
const WIDEST: usize = 48;

/// A table under construction. Figures stand to the right.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row; control characters become spaces.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let plain = |cell: String| cell.replace(char::is_control, " ");
        self.rows.push(cells.into_iter().map(plain).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).min(WIDEST)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let last = column + 1 == columns;
                let cell = if last { cell.clone() } else { cut(cell) };
                let figure = cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                match figure {
                    true => line.extend([padding.as_str(), cell.as_str()]),
                    false => line.extend([cell.as_str(), padding.as_str()]),
                }
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= WIDEST {
        return cell.to_owned();
    }
    cell.chars().take(WIDEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_figures_stand_to_the_right() {
        let mut table = Table::new(&["ROUTE", "REQ/S"]);
        table.row(["cart".to_owned(), "12.5".to_owned()]);
        table.row(["a\x1b[2Jb".to_owned(), "3".to_owned()]);
        assert_eq!(table.to_string(), "ROUTE   REQ/S\ncart     12.5\na [2Jb      3\n");
    }

    #[test]
    fn a_long_cell_is_cut() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["x".repeat(60), "y".repeat(60)]);
        let text = table.to_string();
        assert!(text.contains(&format!("{}…  {}", "x".repeat(47), "y".repeat(60))), "{text}");
    }
}
