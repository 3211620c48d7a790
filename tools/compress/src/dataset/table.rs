//! The label file of a folder.

use std::path::{Component, Path, PathBuf};

use super::{DatasetError, LABELS_FILE, csv};

/// A line of the file.
pub(super) struct Row {
    /// Its number, from 1.
    pub line: usize,
    /// The picture, inside the folder.
    pub file: PathBuf,
    pub class: Class,
}

/// What a line says of the class; never empty.
pub(super) enum Class {
    /// Of the column `class_index`.
    Index(String),
    /// Of the column `class`.
    Name(String),
}

/// The lines of a folder's label file; `None` where it has none.
///
/// # Errors
/// [`DatasetError`] naming the line that is wrong; [`DatasetError::Empty`] if there is no picture.
pub(super) fn read(folder: &Path) -> Result<Option<Vec<Row>>, DatasetError> {
    let path = folder.join(LABELS_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|source| DatasetError::Read { path: path.clone(), source })?;
    let bad = |line: usize, why: String| DatasetError::Line { path: path.clone(), line, why };
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let header = lines.next().map_or_else(Vec::new, |(_, line)| csv::fields(line));
    let column =
        |name: &str| header.iter().position(|h| h.trim().trim_start_matches('\u{feff}') == name);
    let file_at = column("file").ok_or_else(|| bad(1, "the header has no column 'file'".into()))?;
    let (index_at, name_at) = (column("class_index"), column("class"));
    let Some(class_at) = index_at.or(name_at) else {
        return Err(bad(1, "the header has no column 'class_index' or 'class'".into()));
    };
    let mut rows = Vec::new();
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let fields = csv::fields(text);
        let field = |at: usize| fields.get(at).map_or("", |f| f.trim());
        let file = PathBuf::from(field(file_at));
        let inside = |c| matches!(c, Component::Normal(_) | Component::CurDir);
        if file.as_os_str().is_empty() || !file.components().all(inside) {
            return Err(bad(line, format!("'{}' is no file of this folder", file.display())));
        }
        let class = field(class_at).to_owned();
        if class.is_empty() {
            return Err(bad(line, "it has no class".into()));
        }
        let class = if index_at.is_some() { Class::Index(class) } else { Class::Name(class) };
        rows.push(Row { line, file, class });
    }
    if rows.is_empty() {
        return Err(DatasetError::Empty { path: folder.to_owned() });
    }
    Ok(Some(rows))
}
