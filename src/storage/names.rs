//! Names of files and folders: what a catalog may say, and what a table is called on disk.

use std::path::{Component, Path};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// A catalog path, or an error if it could leave the archive folder.
pub fn checked(relative: &str) -> Result<&Path> {
    let path = Path::new(relative);
    let plain = |component: Component| matches!(component, Component::Normal(_));
    match !relative.is_empty() && path.components().all(plain) {
        true => Ok(path),
        false => Err(Error::refused(format!(
            "the catalog names a cold file outside the archive folder: {relative}"
        ))),
    }
}

pub fn portable(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// A folder name for a table: letters and digits of any script, `_`, `-` and inner dots stay;
/// every other character becomes `%` and its code.
pub fn folder_name(table: &str) -> String {
    let mut name = String::new();
    for (index, c) in table.char_indices() {
        if c.is_alphanumeric() || "_-".contains(c) || (c == '.' && index > 0) {
            name.push(c);
        } else {
            name += &format!("%{:02X}", u32::from(c));
        }
    }
    if name.is_empty() {
        name.push('%'); // SQLite takes "" for a name.
    }
    if name.len() > 200 {
        // File systems stop at 255 bytes; the hash keeps long names apart.
        let hash = xxh3_64(table.as_bytes());
        name.truncate(name.floor_char_boundary(180));
        name += &format!("%{hash:016x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalog_paths_cannot_leave_the_folder() {
        assert!(checked("t/year=2024/a.parquet").is_ok());
        for path in ["", "/etc/passwd", "../x", "t/../../x", "t/./x/..", "."] {
            assert!(checked(path).is_err(), "{path}");
        }
    }

    #[test]
    fn folder_names_are_plain_and_distinct() {
        assert_eq!(folder_name("task_queue"), "task_queue");
        assert_eq!(folder_name("über größe"), "über%20größe");
        assert_eq!(folder_name("../x"), "%2E.%2Fx");
        assert_eq!(folder_name(""), "%");
        assert_ne!(folder_name("a/b"), folder_name("a%2Fb"));
        assert!(folder_name(&"x".repeat(1000)).len() < 220);
    }
}
