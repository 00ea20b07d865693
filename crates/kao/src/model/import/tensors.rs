//! Which of a file's tensors are a network's, under whatever names, and what is missing.

use super::weight_sets::{self, CheckpointWeights, Selection};
use crate::formats::LoadReport;
use crate::model::ModelConfig;

/// How a file's tensors compare with what its configuration asks for, and what was taken off their
/// names or chosen for it.
pub fn compare(config: &ModelConfig, tensors: &[(&str, &[usize])]) -> (LoadReport, Vec<String>) {
    let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
    let selection = select(config, &names, CheckpointWeights::Average);
    let listed: Vec<_> = tensors
        .iter()
        .filter_map(|&(name, shape)| Some((selection.listed_name(name)?, shape)))
        .collect();
    let report = compare_named(config, &listed);
    (report, selection.choice.into_iter().chain(selection.notes).collect())
}

/// Which of a file's tensors are those of the network.
pub fn select(config: &ModelConfig, names: &[&str], which: CheckpointWeights) -> Selection {
    let expected = config.unet.tensors();
    let expected: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    // The last one is the time table, which is computed where the file has none.
    let (optional, needed) = expected
        .split_last()
        .map_or((&[][..], &[][..]), |(last, rest)| (std::slice::from_ref(last), rest));
    weight_sets::select(needed, optional, names, which)
}

/// How a file's tensors, named as the network names them, compare with what `config` asks for.
pub fn compare_named(config: &ModelConfig, tensors: &[(&str, &[usize])]) -> LoadReport {
    let expected = expected_tensors(config, |name| tensors.iter().any(|(found, _)| *found == name));
    let expected = expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    LoadReport::compare_shapes(expected, tensors.iter().copied())
}

fn expected_tensors(
    config: &ModelConfig,
    is_there: impl Fn(&str) -> bool,
) -> Vec<(String, Vec<usize>)> {
    let mut expected = config.unet.tensors();
    // The last one is the time table, which is computed where the file has none.
    if !expected.last().is_some_and(|(name, _)| is_there(name)) {
        expected.pop();
    }
    expected
}
