//! The argument `--shard` of every command whose work splits by itself.

use clap::Args;
use kao::shard::Shard;
use kao::{Error, Result};

/// Which part of the work is done.
#[derive(Args)]
pub struct ShardArgument {
    /// Do only part K of N, from 0/N to (N-1)/N; all parts together are the whole, to the byte. auto/N
    /// takes K from the scheduler: SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX. auto takes N too, as
    /// SLURM_ARRAY_TASK_COUNT
    #[arg(long, value_name = "K/N")]
    pub shard: Option<String>,
}

impl ShardArgument {
    /// What the user typed, or what the scheduler says where they ask for that.
    pub fn request(&self) -> Result<Option<Shard>> {
        let environment = |name: &str| std::env::var(name).ok();
        self.shard.as_deref().map(|text| shard(text, &environment)).transpose()
    }
}

/// The variables in which schedulers say which task of an array or an indexed job this is.
const TASK_VARIABLES: [&str; 2] = ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"];

fn shard(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Shard> {
    let count = match text.strip_prefix("auto") {
        None => return text.parse(),
        Some("") => None,
        Some(count) => {
            let count = count.strip_prefix('/').and_then(|count| count.parse::<u32>().ok());
            let allowed = "a part as in 0/5, auto/5 or auto";
            Some(count.ok_or_else(|| Error::out_of_range("shard", text, allowed))?)
        }
    };
    let [first, second] = TASK_VARIABLES;
    let Some((variable, task)) =
        TASK_VARIABLES.iter().find_map(|name| Some((*name, environment(name)?)))
    else {
        let problem = format!("{text}: neither {first} nor {second} is set");
        return Err(Error::invalid("shard", problem)
            .with_hint("run it as a task of a Slurm array or of an indexed Kubernetes job"));
    };
    let number = |name: &str, value: &str| {
        let problem = format!("{text}: {name} is {value:?}; expected a number");
        value.trim().parse::<u32>().map_err(|_| Error::invalid("shard", problem))
    };
    let index = number(variable, &task)?;
    let count = match count {
        Some(count) => count,
        None => count_of_array(text, variable, environment, &number)?,
    };
    Shard::new(index, count).map_err(|error| {
        error.with_hint(format!(
            "the task is {variable}={index}; arrays count from 0: 0-{}",
            count - u32::from(count > 0)
        ))
    })
}

/// How many tasks the array has. A few tasks of an array that are started again count themselves
/// alone, so what does not begin with 0 or has gaps is refused.
fn count_of_array(
    text: &str,
    variable: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    number: &dyn Fn(&str, &str) -> Result<u32>,
) -> Result<u32> {
    let refused = |problem: String| {
        Err(Error::invalid("shard", format!("{text}: {problem}"))
            .with_hint("say how many parts there are, as in auto/5"))
    };
    let of = |name: &str| environment(name).map(|value| number(name, &value)).transpose();
    let [count, least, most] =
        ["SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX"];
    let Some(n) = of(count)? else {
        return refused(format!("{variable} is set, but {count} is not"));
    };
    let (least, most) = (of(least)?.unwrap_or(0), of(most)?.unwrap_or(n.saturating_sub(1)));
    if least != 0 || most != n.saturating_sub(1) {
        return refused(format!("the array has {n} tasks from {least} to {most}"));
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_say_which_part_it_is() {
        let given = |text: &str, variables: &[(&str, &str)]| {
            let environment = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            shard(text, &environment)
                .map(|shard| shard.to_string())
                .map_err(|error| error.to_string())
        };
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "3"),
            ("SLURM_ARRAY_TASK_COUNT", "8"),
            ("SLURM_ARRAY_TASK_MIN", "0"),
            ("SLURM_ARRAY_TASK_MAX", "7"),
        ];
        assert_eq!(given("auto", &slurm).unwrap(), "3/8");
        assert_eq!(given("auto/5", &slurm).unwrap(), "3/5");
        assert_eq!(given("1/2", &slurm).unwrap(), "1/2");
        assert_eq!(given("auto/9", &[("JOB_COMPLETION_INDEX", "8")]).unwrap(), "8/9");
        let again = [
            ("SLURM_ARRAY_TASK_ID", "3"),
            ("SLURM_ARRAY_TASK_COUNT", "1"),
            ("SLURM_ARRAY_TASK_MIN", "3"),
            ("SLURM_ARRAY_TASK_MAX", "3"),
        ];
        for (text, variables, words) in [
            ("auto", &again[..], "the array has 1 tasks from 3 to 3"),
            ("auto", &[("JOB_COMPLETION_INDEX", "8")], "SLURM_ARRAY_TASK_COUNT is not"),
            ("auto/3", &again, "3/3: must be between 0/3 and 2/3"),
            ("auto/0", &again, "3/0: must be of 1 to"),
            ("auto/4", &[], "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
            ("auto/4", &[("JOB_COMPLETION_INDEX", "x")], "JOB_COMPLETION_INDEX is \"x\""),
            ("automatic", &slurm, "must be a part as in 0/5"),
        ] {
            let error = given(text, variables).unwrap_err();
            assert!(error.starts_with("shard") && error.contains(words), "{text}: {error}");
        }
    }
}
