//! Names for prepared pictures: each source gets one of its own, the same on every run.

use std::collections::HashSet;
use std::path::Path;

use super::kinds::is_named_as_picture;

/// What a name in a folder may be long, in bytes: no common file system allows more.
const MAX_NAME_BYTES: usize = 255;

/// The output name (below the output folder) of each source name (below the raw folder).
///
/// `faces/a.jpg` becomes `faces/a.png`. Where several sources of a folder ask for one name, the
/// first keeps it and the others become `a-2.png`, `a-3.png` … in their order. Names that differ
/// only in case count as one, because on many disks they are. A name that would be longer than a
/// file system allows loses its end.
///
/// `sources` must be sorted; the result has its order.
pub(super) fn output_names<'a>(sources: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    // A folder `a.png` would stand in the way of a file `a.png`.
    let mut taken: HashSet<String> = sources
        .clone()
        .flat_map(|source| source.match_indices('/').map(|(end, _)| named(&source[..end], "")))
        .map(|folder| folder.to_lowercase())
        .collect();
    let mut names: Vec<Option<String>> = sources
        .clone()
        .map(|source| {
            let name = named(stem(source), ".png");
            taken.insert(name.to_lowercase()).then_some(name)
        })
        .collect();
    for (name, source) in names.iter_mut().zip(sources) {
        if name.is_none() {
            *name = (2..)
                .map(|number: usize| named(stem(source), &format!("-{number}.png")))
                .find(|candidate| taken.insert(candidate.to_lowercase()));
        }
    }
    names.into_iter().flatten().collect()
}

/// `path` with `suffix`, each part cut to the length that a name may have.
fn named(path: &str, suffix: &str) -> String {
    let (folder, name) = match path.rsplit_once('/') {
        Some((folder, name)) => (Some(folder), name),
        None => (None, path),
    };
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES - suffix.len())];
    match folder {
        // The folders of a name are the same whatever is in them.
        Some(folder) => format!("{}/{name}{suffix}", named(folder, "")),
        None => format!("{name}{suffix}"),
    }
}

/// A name without its extension, where that says no more than that it is a picture.
fn stem(source: &str) -> &str {
    match source.rsplit_once('.') {
        Some((stem, _)) if is_named_as_picture(Path::new(source)) => stem,
        _ => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(sources: &[&str]) -> Vec<String> {
        output_names(sources.iter().copied())
    }

    #[test]
    fn a_name_keeps_its_stem_and_folder() {
        assert_eq!(
            names(&["46651_2014.jpg", "b/v1.2.JPEG", "scan", "shot.v2"]),
            ["46651_2014.png", "b/v1.2.png", "scan.png", "shot.v2.png"]
        );
    }

    #[test]
    fn sources_that_ask_for_one_name_get_numbers() {
        assert_eq!(
            names(&["a-2.jpg", "a.GIF", "a.jpg", "a.png", "b/a.jpg"]),
            ["a-2.png", "a.png", "a-3.png", "a-4.png", "b/a.png"]
        );
        assert_eq!(names(&["A.jpg", "a.jpg"]), ["A.png", "a-2.png"]);
    }

    #[test]
    fn a_folder_with_the_name_of_a_picture_is_in_nobodys_way() {
        assert_eq!(names(&["a.jpg", "a.png/b.jpg"]), ["a-2.png", "a.png/b.png"]);
    }

    #[test]
    fn a_name_that_is_too_long_loses_its_end() {
        let long = "u".repeat(253);
        let [name] = &names(&[&long])[..] else { panic!() };
        assert_eq!(*name, format!("{}.png", "u".repeat(251)));
        // Two that differ only there, and one whose letters take several bytes.
        let (jpg, png) = (format!("{}.jpg", "b".repeat(251)), format!("{}.png", "b".repeat(251)));
        assert_eq!(
            names(&[&jpg, &png]),
            [format!("{}.png", "b".repeat(251)), format!("{}-2.png", "b".repeat(249))]
        );
        let [name] = &names(&[&"顔".repeat(85)])[..] else { panic!() };
        assert_eq!(*name, format!("{}.png", "顔".repeat(83)));
        // A folder whose name is not Unicode grows when it is replaced by what is.
        let folder = format!("{}/a.jpg", "\u{FFFD}".repeat(255));
        assert_eq!(names(&[&folder]), [format!("{}/a.png", "\u{FFFD}".repeat(85))]);
    }

    proptest! {
        #[test]
        fn every_name_fits_a_file_system(
            sources in prop::collection::btree_set("[aé]{120,260}(/[bé]{250,256}(\\.jpg)?)?", 1..9)
        ) {
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            let names = names(&sources);
            prop_assert_eq!(names.len(), sources.len());
            let distinct: HashSet<&String> = names.iter().collect();
            prop_assert_eq!(distinct.len(), names.len());
            prop_assert!(names.iter().flat_map(|name| name.split('/')).all(|part| part.len() <= 255));
        }

        #[test]
        fn every_source_gets_a_name_of_its_own(
            sources in prop::collection::btree_set("([ab]/)?[abAB](-[23])?\\.(jpg|png|gif)", 1..40)
        ) {
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            let names = names(&sources);
            prop_assert_eq!(names.len(), sources.len());
            let distinct: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
            prop_assert_eq!(distinct.len(), sources.len());
        }
    }
}
