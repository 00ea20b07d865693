//! What a file is by its name.

use std::path::Path;

/// A list of classes, as EDM has it.
pub(super) const EDM_FILE: &str = "dataset.json";

/// Texts with tags beside pictures.
pub(super) const TEXT_EXTENSIONS: [&str; 2] = ["txt", "caption"];

/// Names that promise a picture. What cannot be read of these is worth telling the user, so
/// formats that Kao does not decode are among them.
const PICTURE_EXTENSIONS: [&str; 39] = [
    "apng", "arw", "avif", "bmp", "cr2", "cr3", "dds", "dib", "dng", "exr", "gif", "heic", "heif",
    "hif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpf", "jpg", "jpx", "jxl", "jxr", "nef",
    "orf", "pbm", "pcx", "pgm", "png", "ppm", "psd", "qoi", "tga", "tif", "tiff", "webp", "xcf",
];

/// Whether a name ends as those of pictures do.
pub(super) fn is_named_as_picture(name: &Path) -> bool {
    name.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| PICTURE_EXTENSIONS.contains(&extension.to_lowercase().as_str()))
}

/// Whether a name ends as those of archives do.
pub(super) fn is_named_as_archive(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
}

/// Whether a path names many pictures: a folder, or archives (`shards-{000..099}.tar`).
pub fn is_collection(path: &Path) -> bool {
    path.is_dir() || is_named_as_archive(path)
}
