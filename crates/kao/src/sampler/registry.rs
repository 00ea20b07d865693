//! All sampling methods, by name: the one place that lists them.

use super::{
    Ddim, Ddpm, Description, DpmPlusPlus, DpmPlusPlus3M, DpmPlusPlusSde, Euler, EulerAncestral,
    Heun, Loop, Method, Plan, UniPc,
};
use crate::denoiser::Clipping;
use crate::error::{Error, Result};
use crate::named::unknown;
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Step};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Makes [`Sampler`] of the types that implement [`Method`], in the order in which users see them.
macro_rules! registry {
    ($($Type:ident),+ $(,)?) => {
        /// A sampling method with its settings. In JSON an object of its `name` and its settings, or
        /// the name alone.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Sampler {
            $(#[doc = concat!("See [`", stringify!($Type), "`](super::", stringify!($Type), ").")]
            $Type($Type),)+
        }

        $(impl From<$Type> for Sampler {
            fn from(method: $Type) -> Self {
                Sampler::$Type(method)
            }
        })+

        impl Sampler {
            /// All methods, with the settings that they have by default.
            pub fn all() -> Vec<Sampler> {
                vec![$(Sampler::$Type($Type::default())),+]
            }

            /// What users read of the method.
            pub fn description(&self) -> Description {
                match self {
                    $(Sampler::$Type(_) => $Type::DESCRIPTION),+
                }
            }

            /// Checks the settings, as far as can be told without a schedule.
            ///
            /// # Errors
            /// Names the setting, such as `sampler.eta`.
            pub fn validate(&self) -> Result<()> {
                match self {
                    $(Sampler::$Type(method) => method.validate()),+
                }
            }

            /// How many steps are taken over `n_timesteps` timesteps where nobody says.
            pub fn default_steps(&self, n_timesteps: usize) -> usize {
                match self {
                    $(Sampler::$Type(method) => method.default_steps(n_timesteps)),+
                }
            }

            /// How often the network is evaluated for each image in `n_steps` steps that end at
            /// `end`: what an image costs.
            pub fn n_evaluations(&self, n_steps: usize, end: End) -> usize {
                match self {
                    $(Sampler::$Type(method) => method.n_evaluations(n_steps, end)),+
                }
            }

            fn plan_loop(&self, schedule: &NoiseSchedule, steps: &[Step]) -> Result<Loop> {
                match self {
                    $(Sampler::$Type(method) => method.plan(schedule, steps)),+
                }
            }

            /// The settings by name.
            pub fn settings(&self) -> Map<String, Value> {
                let settings = match self {
                    $(Sampler::$Type(method) => serde_json::to_value(method)),+
                };
                match settings {
                    Ok(Value::Object(settings)) => settings,
                    _ => Map::new(),
                }
            }

            fn set(&mut self, settings: Map<String, Value>) -> serde_json::Result<()> {
                match self {
                    $(Sampler::$Type(method) => {
                        *method = serde_json::from_value(Value::Object(settings))?;
                    })+
                }
                Ok(())
            }
        }
    };
}
registry! {
    Ddim,
    DpmPlusPlus,
    DpmPlusPlusSde,
    DpmPlusPlus3M,
    UniPc,
    Euler,
    EulerAncestral,
    Heun,
    Ddpm,
}

impl Default for Sampler {
    /// DPM-Solver++ without noise.
    fn default() -> Self {
        DpmPlusPlus::default().into()
    }
}

impl Sampler {
    /// The name on command lines, in files and in the texts of pictures.
    pub fn name(&self) -> &'static str {
        self.description().name
    }

    /// The names of all methods.
    pub fn names() -> Vec<&'static str> {
        Sampler::all().iter().map(Sampler::name).collect()
    }

    /// The method of that name (or another name that is accepted), with its default settings.
    ///
    /// # Errors
    /// When there is none, with a hint where one is called much the same.
    pub fn named(name: &str) -> Result<Self> {
        let all = Sampler::all().into_iter();
        let is_named = |sampler: &Sampler| {
            let Description { name: own, aliases, .. } = sampler.description();
            own == name || aliases.contains(&name)
        };
        all.clone().find(is_named).ok_or_else(|| unknown("sampler", name, Sampler::names()))
    }

    /// The method of that name, with these settings.
    ///
    /// # Errors
    /// When there is no such method, the method has no such setting, or a value is impossible.
    pub fn with_settings(name: &str, settings: Map<String, Value>) -> Result<Self> {
        let mut sampler = Sampler::named(name)?;
        let own = sampler.settings();
        if let Some(other) = settings.keys().find(|key| !own.contains_key(*key)) {
            let methods = Sampler::with_setting(other);
            let problem = match methods.is_empty() {
                true => format!("no sampler has such a setting; {} has {}", name, listed(&own)),
                false => format!("only applies with {}", methods.join(", ")),
            };
            return Err(Error::invalid(format!("sampler.{other}"), problem));
        }
        sampler.set(settings).map_err(|error| Error::invalid("sampler", error))?;
        Ok(sampler)
    }

    /// The methods that have a setting of that name.
    pub fn with_setting(setting: &str) -> Vec<&'static str> {
        let all = Sampler::all();
        let has_it = all.iter().filter(|sampler| sampler.settings().contains_key(setting));
        has_it.map(Sampler::name).collect()
    }

    /// The same method for steps that others follow, where none is the last: DDPM draws noise in all
    /// of them.
    pub fn followed(self) -> Self {
        match self {
            Sampler::Ddpm(ddpm) => Ddpm { final_noise: true, ..ddpm }.into(),
            other => other,
        }
    }

    /// The method planned for `steps`, with x̂_0 clipped as `clipping` says at every step; `true` is to
    /// `[-1, 1]`.
    ///
    /// # Errors
    /// When a setting is impossible or does not fit the steps, or a step leaves the schedule or goes
    /// up.
    pub fn plan(
        &self,
        schedule: &NoiseSchedule,
        steps: Vec<Step>,
        clipping: impl Into<Clipping>,
    ) -> Result<Plan> {
        self.validate()?;
        let clipping = clipping.into();
        Plan::new(schedule, steps, clipping, |schedule, steps| self.plan_loop(schedule, steps))
    }
}

fn listed(settings: &Map<String, Value>) -> String {
    match settings.is_empty() {
        true => "none".to_owned(),
        false => settings.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

impl Serialize for Sampler {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = Map::from_iter([("name".to_owned(), Value::from(self.name()))]);
        object.extend(self.settings());
        object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sampler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let sampler = match Value::deserialize(deserializer)? {
            Value::String(name) => Sampler::named(&name),
            Value::Object(mut settings) => match settings.remove("name") {
                Some(Value::String(name)) => Sampler::with_settings(&name, settings),
                _ => return Err(D::Error::missing_field("name")),
            },
            _ => return Err(D::Error::custom("sampler: expected a name, or an object with one")),
        };
        sampler.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_sampler_is_found_by_its_names_and_survives_json() {
        let all = Sampler::all();
        for sampler in &all {
            let Description { name, aliases, title, about } = sampler.description();
            assert!(!title.is_empty() && !about.is_empty(), "{name}");
            for name in aliases.iter().chain([&name]) {
                assert_eq!(Sampler::named(name).unwrap(), *sampler);
                assert_eq!(serde_json::from_value::<Sampler>(json!(name)).unwrap(), *sampler);
                let n_called = all.iter().filter(|other| {
                    let Description { name: other, aliases, .. } = other.description();
                    other == *name || aliases.contains(name)
                });
                assert_eq!(n_called.count(), 1, "{name} is the name of several");
            }
            let json = serde_json::to_value(sampler).unwrap();
            assert_eq!(serde_json::from_value::<Sampler>(json).unwrap(), *sampler);
        }
        let noisy = Sampler::from(Ddim { eta: 0.5 });
        assert_eq!(serde_json::to_value(noisy).unwrap(), json!({ "name": "ddim", "eta": 0.5 }));
        let whole = json!({ "name": "ddim", "eta": 1 });
        let sampler = serde_json::from_value::<Sampler>(whole).unwrap();
        assert_eq!(sampler, Sampler::from(Ddim { eta: 1.0 }));
    }

    #[test]
    fn what_is_not_known_is_answered_with_what_is() {
        let error = Sampler::named("dpm").unwrap_err();
        assert!(error.to_string().starts_with("sampler dpm: must be one of ddim, dpm++"));
        assert_eq!(error.hint(), Some("did you mean `dpm++`?"));
        let with = |name, setting: &str| {
            let settings = Map::from_iter([(setting.to_owned(), json!(1))]);
            Sampler::with_settings(name, settings).unwrap_err().to_string()
        };
        assert_eq!(
            with("ddpm", "eta"),
            "sampler.eta: only applies with ddim, dpm++, dpm++-sde, euler-a"
        );
        assert_eq!(with("euler", "variance"), "sampler.variance: only applies with ddpm");
        let error = with("ddim", "rho");
        assert_eq!(error, "sampler.rho: no sampler has such a setting; ddim has eta");
        for json in [json!({ "eta": 1 }), json!(7), json!({ "name": "ddim", "rho": 7 })] {
            assert!(serde_json::from_value::<Sampler>(json.clone()).is_err(), "{json}");
        }
    }
}
