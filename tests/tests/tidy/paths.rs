//! A reader of Rust, as small as the rules allow: the code of a file without comments and unit tests, and the paths
//! that it names.

use crate::Source;

/// The lines that are compiled into the product, without comments and without items behind `#[cfg(test)]`.
pub fn code(file: &Source) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut all = file.lines().filter(|(_, line)| !line.trim_start().starts_with("//"));
    if file.path.ends_with("/tests.rs") || file.path.contains("/tests/") {
        return lines;
    }
    while let Some((number, line)) = all.next() {
        if line.trim() == "#[cfg(test)]" {
            skip_item(&mut all);
        } else {
            lines.push((number, line));
        }
    }
    lines
}

/// Skips one item: up to its semicolon, or to the brace that closes it at its own depth.
fn skip_item<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) {
    let Some((_, first)) = lines.find(|(_, line)| !line.trim_start().starts_with("#[")) else { return };
    let indent = &first[..first.len() - first.trim_start().len()];
    if first.trim_end().ends_with([';', '}']) {
        return;
    }
    let end = format!("{indent}}}");
    for (_, line) in lines {
        if line.trim_end() == end {
            return;
        }
    }
}

/// Every path that begins with `root` (such as `crate`), as its segments, with the line on which it begins. A list in
/// braces gives one path per leaf, even over several lines.
pub fn paths(lines: &[(usize, &str)], root: &str) -> Vec<(usize, Vec<String>)> {
    let start = format!("{root}::");
    let mut found = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        for (at, _) in line.match_indices(&start) {
            let is_word =
                line[..at].chars().next_back().is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':');
            if is_word {
                continue;
            }
            let rest = lines[index + 1..].iter().map(|(_, line)| *line);
            let text = [&line[at + start.len()..]].into_iter().chain(rest).collect::<Vec<_>>().join("\n");
            let mut leaves = Vec::new();
            tree(&mut text.as_str(), &mut Vec::new(), &mut leaves);
            found.extend(leaves.into_iter().map(|path| (*number, path)));
        }
    }
    found
}

/// Every path that the lines re-export (`pub use`), as its segments, with the line on which it begins.
pub fn re_exports(lines: &[(usize, &str)]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        let Some((visibility, start)) = line.trim_start().split_once(" use ") else { continue };
        if visibility == "pub" || (visibility.starts_with("pub(") && visibility.ends_with(')')) {
            let rest = lines[index + 1..].iter().map(|(_, line)| *line);
            let text = [start].into_iter().chain(rest).collect::<Vec<_>>().join("\n");
            let mut leaves = Vec::new();
            tree(&mut text.as_str(), &mut Vec::new(), &mut leaves);
            found.extend(leaves.into_iter().map(|path| (*number, path)));
        }
    }
    found
}

/// Reads one use tree from the front of a text.
fn tree(text: &mut &str, prefix: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    let depth = prefix.len();
    loop {
        *text = text.trim_start();
        if let Some(inside) = text.strip_prefix('{') {
            *text = inside;
            list(text, prefix, leaves);
            break;
        }
        let end = text.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(text.len());
        if end == 0 {
            leaves.push(prefix.clone());
            break;
        }
        prefix.push(text[..end].to_owned());
        *text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) => *text = rest,
            None => {
                leaves.push(prefix.clone());
                break;
            }
        }
    }
    prefix.truncate(depth);
}

/// Reads the trees of a list up to its closing brace.
fn list(text: &mut &str, prefix: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    while let Some(next) = text.trim_start().chars().next() {
        *text = text.trim_start();
        match next {
            '}' => {
                *text = &text[1..];
                return;
            }
            it if it.is_alphanumeric() || it == '_' || it == '{' => tree(text, prefix, leaves),
            _ => *text = &text[next.len_utf8()..],
        }
    }
}

#[cfg(test)]
fn leaves(text: &str) -> Vec<String> {
    let file = Source::new("daemon/src/x/mod.rs", text);
    paths(&code(&file), "crate").into_iter().map(|(line, path)| format!("{line} {}", path.join("::"))).collect()
}

#[test]
fn a_use_over_several_lines_is_read_whole() {
    assert_eq!(leaves("use crate::a::{\n    b::{C, d},\n    e,\n};\n"), ["1 a::b::C", "1 a::b::d", "1 a::e"]);
    assert_eq!(leaves("fn f() { crate::a::g(crate::b::H) }"), ["1 a::g", "1 b::H"]);
    assert_eq!(leaves("// crate::a\n//! crate::b\nlet x = 1;"), [""; 0]);
    assert_eq!(leaves("pub(crate) fn f() {}"), [""; 0]);
}

#[test]
fn only_the_item_behind_the_attribute_is_left_out() {
    assert_eq!(leaves("#[cfg(test)]\nmod tests;\nuse crate::a;\n"), ["3 a"]);
    assert_eq!(leaves("#[cfg(test)]\nmod tests {\n    use crate::b;\n}\nuse crate::a;\n"), ["5 a"]);
    assert_eq!(leaves("#[cfg(test)]\nuse crate::b;\nuse crate::a;\n"), ["3 a"]);
}
