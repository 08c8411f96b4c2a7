//! The checkout of the repository: templates, routes, and the tools in `.venv`.
//!
//! It is found at run time, so that a copied checkout runs with its own files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The environment variable that names the checkout; make sets it.
const VARIABLE: &str = "IOT_METER_CHECKOUT";
/// A file that identifies a checkout.
const MARKER: &str = "infra/stores/template.yaml";

/// The folder in `IOT_METER_CHECKOUT`, else the current folder or the nearest folder above it that
/// is a checkout, else the current folder, which [`check`] then refuses.
pub(crate) fn find() -> PathBuf {
    if let Some(folder) = std::env::var_os(VARIABLE) {
        return folder.into();
    }
    let current = std::env::current_dir().unwrap_or_default();
    let found = current.ancestors().find(|folder| folder.join(MARKER).is_file());
    found.unwrap_or(&current).to_owned()
}

/// Checks that the folder is a checkout, and that its `.venv` was made for it.
///
/// # Errors
/// Each error contains the command or setting that corrects it.
pub(crate) fn check(checkout: &Path) -> Result<()> {
    ensure!(
        checkout.join(MARKER).is_file(),
        "{} is not a checkout of IoT Meter: run in the checkout, or set {VARIABLE} to its path",
        checkout.display()
    );
    // `.venv` may be a symbolic link to that of another checkout. A copied one is of no use: its
    // scripts contain the path of the original.
    let Ok(venv) = checkout.join(".venv").canonicalize() else { return Ok(()) };
    let folder = venv.parent().context("a .venv is not in a folder")?;
    let Ok(stamp) = std::fs::read_to_string(venv.join(".complete")) else { return Ok(()) };
    ensure!(
        stamp.starts_with(&format!("{} Python ", folder.display())),
        "{} was made for another folder ({}): `make setup` makes it again",
        venv.display(),
        stamp.split(" Python ").next().unwrap_or_default()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout_with_stamp(stamp: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join(MARKER);
        std::fs::create_dir_all(marker.parent().unwrap()).unwrap();
        std::fs::write(marker, "").unwrap();
        if let Some(stamp) = stamp {
            let path = folder.path().canonicalize().unwrap().display().to_string();
            std::fs::create_dir(folder.path().join(".venv")).unwrap();
            let stamp = stamp.replace("HERE", &path);
            std::fs::write(folder.path().join(".venv/.complete"), stamp).unwrap();
        }
        folder
    }

    #[test]
    fn checkout_is_found_above_the_current_folder() {
        // Tests run in the folder of their package.
        check(&find()).unwrap();
    }

    #[test]
    fn own_venv_or_none_is_accepted() {
        for stamp in [None, Some("HERE Python 3.11.2 0123  local/requirements.txt")] {
            check(checkout_with_stamp(stamp).path()).unwrap();
        }
    }

    #[test]
    fn linked_venv_of_another_checkout_is_accepted() {
        let original = checkout_with_stamp(Some("HERE Python 3.11.2 0123  x"));
        let linked = checkout_with_stamp(None);
        let venv = original.path().join(".venv");
        std::os::unix::fs::symlink(venv, linked.path().join(".venv")).unwrap();
        check(linked.path()).unwrap();
    }

    #[test]
    fn copied_venv_is_refused_with_the_folder_of_the_original() {
        let copy = checkout_with_stamp(Some("/home/original Python 3.11.2 0123  x"));
        let error = check(copy.path()).unwrap_err().to_string();
        assert!(error.contains("(/home/original): `make setup`"), "{error}");
    }

    #[test]
    fn folder_that_is_no_checkout_is_refused_with_the_variable_to_set() {
        let error = check(&std::env::temp_dir()).unwrap_err().to_string();
        assert!(error.contains(VARIABLE), "{error}");
    }
}
