//! Markdown as plain text for a terminal: headings, paragraphs, lists, tables and code, wrapped at a width.
//!
//! It knows what the guide uses, and no more. Code is never wrapped, so that it can be copied.

/// The narrowest column of a table.
const NARROWEST: usize = 8;
const GAP: usize = 2;

/// The page as lines of at most `width` columns, but for code.
pub fn plain(page: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut blocks = page.lines().peekable();
    while let Some(line) = blocks.next() {
        if line.starts_with("```") {
            let code = blocks.by_ref().take_while(|line| !line.starts_with("```"));
            lines.extend(code.map(|line| format!("    {line}").trim_end().to_owned()));
        } else if line.starts_with("<!--") {
            // For those who read the source.
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = blocks.next_if(|next| next.starts_with('|')) {
                rows.push(cells(row));
            }
            lines.extend(table(rows, width));
        } else if let Some(title) = line.strip_prefix('#') {
            lines.push(title.trim_start_matches('#').trim().to_uppercase());
        } else if line.is_empty() {
            lines.push(String::new());
        } else {
            let (first, rest) = if line.starts_with("- ") { ("- ", "  ") } else { numbered(line) };
            let mut text = line[first.len()..].to_owned();
            while let Some(next) = blocks.next_if(|next| continues(next)) {
                text = format!("{text} {}", next.trim());
            }
            let wrapped = wrap(&text.replace("**", ""), width.saturating_sub(first.len()));
            let indents = std::iter::once(first).chain(std::iter::repeat(rest));
            lines.extend(indents.zip(wrapped).map(|(indent, line)| format!("{indent}{line}")));
        }
    }
    lines.dedup_by(|a, b| a.is_empty() && b.is_empty());
    lines
}

/// `3. ` before an entry of a numbered list, and the indent of its other lines.
fn numbered(line: &str) -> (&str, &'static str) {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        1 | 2 if line[digits..].starts_with(". ") => (&line[..digits + 2], if digits == 1 { "   " } else { "    " }),
        _ => ("", ""),
    }
}

/// Whether a line goes on with the paragraph or entry above it.
fn continues(line: &str) -> bool {
    !line.is_empty()
        && !line.starts_with(['|', '#', '`', '<'])
        && !line.starts_with("- ")
        && numbered(line).0.is_empty()
        || line.starts_with('`') && !line.starts_with("```")
}

fn cells(row: &str) -> Vec<String> {
    row.trim().trim_matches('|').split('|').map(|cell| cell.trim().replace("**", "")).collect()
}

/// Words in lines of at most `width` columns; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The first row is the heading, the second one of a Markdown table only draws a line.
fn table(rows: Vec<Vec<String>>, width: usize) -> Vec<String> {
    let ruled = |row: &Vec<String>| row.iter().all(|cell| cell.bytes().all(|byte| byte == b'-'));
    let rows: Vec<Vec<String>> = rows.into_iter().filter(|row| !ruled(row)).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let natural = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths = fit((0..columns).map(natural).collect(), width.saturating_sub(GAP * columns.saturating_sub(1)));
    // An empty line separates rows of several lines.
    let is_tall = |row: &Vec<String>| row.iter().zip(&widths).any(|(cell, width)| wrap(cell, *width).len() > 1);
    let tall = rows.iter().any(is_tall);
    let wrapped = rows.iter().enumerate().flat_map(|(number, row)| {
        let cells: Vec<Vec<String>> = row.iter().zip(&widths).map(|(cell, width)| wrap(cell, *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or_default();
        let line = |at: usize| {
            let cell = |(cell, width): (&Vec<String>, &usize)| {
                let text = cell.get(at).map_or("", String::as_str);
                format!("{text}{}", " ".repeat(width.saturating_sub(text.chars().count())))
            };
            let line: Vec<String> = cells.iter().zip(&widths).map(cell).collect();
            line.join(&" ".repeat(GAP)).trim_end().to_owned()
        };
        let rule = || widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join(&" ".repeat(GAP));
        let mut lines: Vec<String> = (0..height).map(line).collect();
        lines.extend((number == 0).then(rule));
        lines.extend((tall && number > 0 && number + 1 < rows.len()).then(String::new));
        lines
    });
    wrapped.collect()
}

/// Takes from the widest columns until all fit.
fn fit(mut widths: Vec<usize>, width: usize) -> Vec<usize> {
    while widths.iter().sum::<usize>() > width {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_lists_are_wrapped_and_code_is_not() {
        let page = "# A page\n\none two\nthree **four**\n\n- five six seven\n  eight\n2. nine ten eleven\n\n```sh\na long line of code\n```\n";
        let expected = [
            "A PAGE",
            "",
            "one two",
            "three four",
            "",
            "- five six",
            "  seven",
            "  eight",
            "2. nine ten",
            "   eleven",
            "",
            "    a long line of code",
        ];
        assert_eq!(plain(page, 11), expected);
    }

    #[test]
    fn a_table_takes_from_its_widest_column() {
        let page = "| who | what |\n|---|---|\n| a | one two three four |\n| b | five |\n";
        let narrow = ["who  what", "---  ---------", "a    one two", "     three", "     four", "", "b    five"];
        assert_eq!(plain(page, 14), narrow);
        assert_eq!(plain(page, 80)[2..], ["a    one two three four", "b    five"]);
    }
}
