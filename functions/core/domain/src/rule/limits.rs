//! Limits for the start and the end of an alert.

use serde::{Deserialize, Serialize};

/// Comparison of a value with limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Greater than the threshold.
    #[serde(rename = ">")]
    Greater,
    /// At least the threshold.
    #[serde(rename = ">=")]
    AtLeast,
    /// Less than the threshold.
    #[serde(rename = "<")]
    Less,
    /// At most the threshold.
    #[serde(rename = "<=")]
    AtMost,
    /// Below the low end of a range or above the high end.
    #[serde(rename = "outside")]
    Outside,
    /// Within a range, both ends included.
    #[serde(rename = "inside")]
    Inside,
}

impl Operator {
    /// Every operator.
    pub const ALL: [Self; 6] =
        [Self::Greater, Self::AtLeast, Self::Less, Self::AtMost, Self::Outside, Self::Inside];

    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Outside => "outside",
            Self::Inside => "inside",
        }
    }

    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str() == text)
    }

    /// Whether the operator compares with a range instead of one threshold.
    pub const fn is_range(self) -> bool {
        matches!(self, Self::Outside | Self::Inside)
    }
}

/// Limits at which an alert starts and, with hysteresis, at which it ends. All numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    operator: Operator,
    /// The threshold, or the low end of the range.
    low: f64,
    /// The threshold, or the high end of the range.
    high: f64,
    clear_low: f64,
    clear_high: f64,
}

/// Limits that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidLimits {
    /// The invalid field.
    pub field: &'static str,
    /// The requirement that the field violates.
    pub reason: &'static str,
}

const fn invalid(field: &'static str, reason: &'static str) -> InvalidLimits {
    InvalidLimits { field, reason }
}

impl Limits {
    /// Limits with one threshold. The alert ends when the comparison with `clear` fails.
    ///
    /// # Errors
    ///
    /// The operator requires a range, or `clear` is on the far side of the threshold.
    pub fn threshold(
        operator: Operator,
        threshold: f64,
        clear: Option<f64>,
    ) -> Result<Self, InvalidLimits> {
        let clear = clear.unwrap_or(threshold);
        match operator {
            Operator::Greater | Operator::AtLeast if clear > threshold => {
                return Err(invalid("clear", "must not be greater than threshold"));
            }
            Operator::Less | Operator::AtMost if clear < threshold => {
                return Err(invalid("clear", "must not be less than threshold"));
            }
            Operator::Outside | Operator::Inside => {
                return Err(invalid("operator", "requires low and high instead of threshold"));
            }
            _ => {}
        }
        Ok(Self { operator, low: threshold, high: threshold, clear_low: clear, clear_high: clear })
    }

    /// Limits with a range. The alert ends when the comparison with the range `clear` fails.
    ///
    /// # Errors
    ///
    /// The operator requires a threshold, an end is out of order, or `clear` is not inside of the
    /// range (`outside`) or around it (`inside`).
    pub fn range(
        operator: Operator,
        (low, high): (f64, f64),
        clear: Option<(f64, f64)>,
    ) -> Result<Self, InvalidLimits> {
        if low > high {
            return Err(invalid("low", "must not be greater than high"));
        }
        let (clear_low, clear_high) = clear.unwrap_or((low, high));
        if clear_low > clear_high {
            return Err(invalid("clear.low", "must not be greater than clear.high"));
        }
        match operator {
            Operator::Outside if clear_low < low || clear_high > high => {
                Err(invalid("clear", "must be within the range from low to high"))
            }
            Operator::Inside if clear_low > low || clear_high < high => {
                Err(invalid("clear", "must include the range from low to high"))
            }
            Operator::Outside | Operator::Inside => {
                Ok(Self { operator, low, high, clear_low, clear_high })
            }
            _ => Err(invalid("operator", "requires threshold instead of low and high")),
        }
    }

    /// The operator.
    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// The threshold twice, or the ends of the range.
    pub const fn bounds(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The bounds at which an alert ends; `None` if they equal [`Self::bounds`].
    pub fn clear_bounds(&self) -> Option<(f64, f64)> {
        let ends = (self.clear_low, self.clear_high);
        (ends != self.bounds()).then_some(ends)
    }

    /// Whether a value starts an alert.
    pub fn raises(&self, value: f64) -> bool {
        compare(self.operator, value, self.low, self.high)
    }

    /// Whether a value ends an alert.
    pub fn clears(&self, value: f64) -> bool {
        !compare(self.operator, value, self.clear_low, self.clear_high)
    }
}

fn compare(operator: Operator, value: f64, low: f64, high: f64) -> bool {
    match operator {
        Operator::Greater => value > low,
        Operator::AtLeast => value >= low,
        Operator::Less => value < low,
        Operator::AtMost => value <= low,
        Operator::Outside => value < low || value > high,
        Operator::Inside => (low..=high).contains(&value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_inclusive_for_at_least_at_most_and_inside() {
        for (operator, below, at, above) in [
            (Operator::Greater, false, false, true),
            (Operator::AtLeast, false, true, true),
            (Operator::Less, true, false, false),
            (Operator::AtMost, true, true, false),
        ] {
            let limits = Limits::threshold(operator, 5.0, None).unwrap();
            assert_eq!([4.0, 5.0, 6.0].map(|v| limits.raises(v)), [below, at, above]);
        }
        let range = |operator| Limits::range(operator, (1.0, 2.0), None).unwrap();
        let values = [0.9, 1.0, 2.0, 2.1];
        let raises = |operator| values.map(|v| range(operator).raises(v));
        assert_eq!(raises(Operator::Outside), [true, false, false, true]);
        assert_eq!(raises(Operator::Inside), [false, true, true, false]);
    }

    #[test]
    fn value_within_the_hysteresis_does_not_clear() {
        let limits = Limits::threshold(Operator::Greater, 90.0, Some(85.0)).unwrap();
        assert_eq!([91.0, 90.0, 85.1, 85.0].map(|v| limits.clears(v)), [false, false, false, true]);
        let limits = Limits::range(Operator::Outside, (10.0, 20.0), Some((12.0, 18.0))).unwrap();
        assert_eq!([9.0, 11.0, 12.0, 19.0].map(|v| limits.clears(v)), [false, false, true, false]);
    }

    #[test]
    fn contradictory_limits_name_the_field() {
        let threshold = |operator, clear| Limits::threshold(operator, 5.0, Some(clear));
        assert_eq!(threshold(Operator::Greater, 6.0).unwrap_err().field, "clear");
        assert_eq!(threshold(Operator::AtMost, 4.0).unwrap_err().field, "clear");
        assert_eq!(threshold(Operator::Inside, 5.0).unwrap_err().field, "operator");
        let range = |operator, clear| Limits::range(operator, (1.0, 2.0), clear);
        assert_eq!(range(Operator::Outside, Some((0.5, 2.0))).unwrap_err().field, "clear");
        assert_eq!(range(Operator::Inside, Some((1.5, 2.0))).unwrap_err().field, "clear");
        assert_eq!(range(Operator::Inside, Some((3.0, 2.0))).unwrap_err().field, "clear.low");
        assert_eq!(range(Operator::Less, None).unwrap_err().field, "operator");
        assert_eq!(Limits::range(Operator::Inside, (2.0, 1.0), None).unwrap_err().field, "low");
    }

    proptest! {
        #[test]
        fn no_value_both_raises_and_clears(
            operator in 0_usize..6, a in -9_i8..9, b in -9_i8..9, c in -9_i8..9, d in -9_i8..9, value in -9_i8..9,
        ) {
            let operator = Operator::ALL[operator];
            let [a, b, c, d, value] = [a, b, c, d, value].map(f64::from);
            let limits = match operator.is_range() {
                true => Limits::range(operator, (a, b), Some((c, d))),
                false => Limits::threshold(operator, a, Some(c)),
            };
            if let Ok(limits) = limits {
                prop_assert!(!(limits.raises(value) && limits.clears(value)));
            }
        }
    }
}
