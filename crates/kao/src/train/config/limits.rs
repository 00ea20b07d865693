//! Which configurations are possible.

use super::TrainConfig;
use crate::error::{Error, Result};
use crate::train::adam::Optimizer;

/// The most that `loss_focus` may be: beyond it the rest of a picture is hardly learned.
const MAX_FOCUS: f64 = 1000.0;

impl TrainConfig {
    /// Checks that the run is possible, as far as that is known without the pictures.
    ///
    /// # Errors
    /// When an entry is out of range or contradicts another; the first one is named.
    pub fn validate(&self) -> Result<()> {
        self.model_config().validate()?;
        let at_least_one = [
            ("steps", self.steps),
            ("batch_size", self.batch_size as u64),
            ("micro_batch_size", self.micro_batch_size as u64),
            ("log_every", self.log_every),
            ("save_every", self.save_every),
            ("keep_checkpoints", self.keep_checkpoints as u64),
            ("sample_steps", self.sample_steps as u64),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(Error::out_of_range(*name, 0, "at least 1"));
        }
        if self.sample_steps > self.schedule.n_timesteps {
            return Err(Error::out_of_range(
                "sample_steps",
                self.sample_steps,
                format!("at most {}, the number of timesteps", self.schedule.n_timesteps),
            ));
        }
        let positive = [
            ("learning_rate", self.learning_rate),
            ("ema_halflife_images", self.ema_halflife_images),
        ];
        for (name, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::out_of_range(name, value, "above 0"));
            }
        }
        let at_least_zero = [
            ("max_gradient_norm", self.max_gradient_norm),
            ("min_snr_gamma", self.min_snr_gamma),
            ("loss_focus", self.loss_focus),
            ("weight_decay", self.weight_decay),
            ("final_learning_rate", self.final_learning_rate),
        ];
        for (name, value) in at_least_zero {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::out_of_range(name, value, "at least 0"));
            }
        }
        if !(0.0..=1.0).contains(&self.tag_dropout) {
            return Err(Error::out_of_range("tag_dropout", self.tag_dropout, "between 0 and 1"));
        }
        if self.loss_focus > MAX_FOCUS {
            let (value, allowed) =
                (format!("{:e}", self.loss_focus), format!("at most {MAX_FOCUS}"));
            return Err(Error::out_of_range("loss_focus", value, allowed));
        }
        // The optimizer computes in single precision.
        for (name, value) in [positive[0], at_least_zero[3]] {
            let (least, most) = (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX));
            if value != 0.0 && !(least..=most).contains(&value) {
                let allowed = format!("between {least:.0e} and {most:.0e}");
                return Err(Error::out_of_range(name, format!("{value:e}"), allowed));
            }
        }
        // A step takes the product off the weights, as a share of them.
        if self.weight_decay * self.learning_rate > 1.0 {
            let allowed =
                format!("at most {:e}, 1 divided by the learning rate", 1.0 / self.learning_rate);
            let value = format!("{:e}", self.weight_decay);
            return Err(Error::out_of_range("weight_decay", value, allowed));
        }
        if self.weight_decay > 0.0 && self.optimizer == Optimizer::Adam {
            let allowed = "0 with the optimizer adam";
            return Err(Error::out_of_range("weight_decay", self.weight_decay, allowed)
                .with_hint("the optimizers adamw and muon have weight decay"));
        }
        if self.final_learning_rate > self.learning_rate {
            let (end, start) = (self.final_learning_rate, self.learning_rate);
            let allowed = format!("at most the learning rate, {start}");
            return Err(Error::out_of_range("final_learning_rate", end, allowed));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Preset;

    #[test]
    fn impossible_recipes_are_named() {
        let run = Preset::Tiny.config();
        let adamw = TrainConfig { optimizer: Optimizer::Adamw, ..run.clone() };
        let cases = [
            (TrainConfig { weight_decay: 0.1, ..run.clone() }, "adamw"),
            (TrainConfig { weight_decay: f64::NAN, ..run.clone() }, "weight_decay"),
            (
                TrainConfig { weight_decay: 1e308, ..adamw.clone() },
                "weight_decay 1e308: must be between",
            ),
            (TrainConfig { weight_decay: 1e4, ..adamw }, "weight_decay 1e4: must be at most"),
            (
                TrainConfig { learning_rate: 1e39, ..run.clone() },
                "learning_rate 1e39: must be between",
            ),
            (
                TrainConfig { learning_rate: 1e-300, ..run.clone() },
                "learning_rate 1e-300: must be between",
            ),
            (TrainConfig { min_snr_gamma: -1.0, ..run.clone() }, "min_snr_gamma"),
            (TrainConfig { loss_focus: -1.0, ..run.clone() }, "loss_focus -1: must be at least 0"),
            (TrainConfig { loss_focus: 1e7, ..run.clone() }, "loss_focus 1e7: must be at most"),
            (TrainConfig { final_learning_rate: 1.0, ..run.clone() }, "final_learning_rate"),
        ];
        for (config, expected) in cases {
            let error = config.validate().unwrap_err();
            let message = format!("{error} {}", error.hint().unwrap_or_default());
            assert!(message.contains(expected), "{message}");
        }
    }
}
