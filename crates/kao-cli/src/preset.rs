//! The argument that names a preset.

use kao::train::Preset;
use kao::{Error, Result};

/// The preset of that name.
pub fn preset(name: &str) -> Result<Preset> {
    Preset::from_name(name).ok_or_else(|| {
        let names = Preset::ALL.map(Preset::name).join(", ");
        Error::out_of_range("--preset", name, format!("one of {names}"))
    })
}
