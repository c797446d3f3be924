//! Other people's implementations, in Python.

use std::path::{Path, PathBuf};

/// A Python with the packages of `tests/interop/requirements.txt`.
pub(crate) fn python() -> PathBuf {
    let in_target = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop-venv/bin/python");
    let python = std::env::var_os("CRVS_INTEROP_PYTHON").map_or_else(in_target, PathBuf::from);
    assert!(python.exists(), "{} is missing: run `make .ensure-python`", python.display());
    python
}
