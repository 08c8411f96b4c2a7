//! Aggregate functions of the translation that SQLite does not have.

use std::cmp::Ordering;

use rusqlite::{
    Connection, Result,
    functions::{Aggregate, Context, FunctionFlags},
    types::{Value, ValueRef},
};

pub(super) fn register(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    for (name, better) in [("ts_max_by", Ordering::Greater), ("ts_min_by", Ordering::Less)] {
        connection.create_aggregate_function(name, 2, flags, MinMaxBy { better })?;
    }
    connection.create_aggregate_function("ts_percentile", 2, flags, Percentile)?;
    for (name, what) in [
        ("ts_var_samp", VarianceFunction::SampleVariance),
        ("ts_var_pop", VarianceFunction::PopulationVariance),
        ("ts_stddev_samp", VarianceFunction::SampleStdDev),
        ("ts_stddev_pop", VarianceFunction::PopulationStdDev),
    ] {
        connection.create_aggregate_function(name, 1, flags, what)?;
    }
    connection.create_aggregate_function("ts_geometric_mean", 1, flags, GeometricMean)
}

/// `max_by(x, y)` and `min_by(x, y)`: the x of the extreme y.
struct MinMaxBy {
    better: Ordering,
}

impl Aggregate<Option<(Value, Value)>, Option<Value>> for MinMaxBy {
    fn init(&self, _: &mut Context<'_>) -> Result<Option<(Value, Value)>> {
        Ok(None)
    }

    fn step(&self, of: &mut Context<'_>, best: &mut Option<(Value, Value)>) -> Result<()> {
        let by = of.get_raw(1);
        if by == ValueRef::Null {
            return Ok(());
        }
        let is_better = match best {
            Some((_, best)) => compare(by, (&*best).into()) == self.better,
            None => true,
        };
        if is_better {
            *best = Some((of.get(0)?, of.get(1)?));
        }
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        best: Option<Option<(Value, Value)>>,
    ) -> Result<Option<Value>> {
        Ok(best.flatten().map(|(value, _)| value))
    }
}

/// Compares two values of one type.
fn compare(one: ValueRef<'_>, two: ValueRef<'_>) -> Ordering {
    match (one, two) {
        (ValueRef::Integer(one), ValueRef::Integer(two)) => one.cmp(&two),
        (ValueRef::Real(one), ValueRef::Real(two)) => one.total_cmp(&two),
        (ValueRef::Integer(one), ValueRef::Real(two)) => (one as f64).total_cmp(&two),
        (ValueRef::Real(one), ValueRef::Integer(two)) => one.total_cmp(&(two as f64)),
        (ValueRef::Text(one), ValueRef::Text(two)) => one.cmp(two),
        _ => Ordering::Equal,
    }
}

/// `approx_percentile(x, p)`, exact here: the smallest value that is not below the share p of all.
struct Percentile;

impl Aggregate<(Vec<Value>, Option<f64>), Option<Value>> for Percentile {
    fn init(&self, _: &mut Context<'_>) -> Result<(Vec<Value>, Option<f64>)> {
        Ok((Vec::new(), None))
    }

    fn step(
        &self,
        of: &mut Context<'_>,
        (values, share): &mut (Vec<Value>, Option<f64>),
    ) -> Result<()> {
        let value: Value = of.get(0)?;
        if value != Value::Null {
            values.push(value);
            *share = of.get(1)?;
        }
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        all: Option<(Vec<Value>, Option<f64>)>,
    ) -> Result<Option<Value>> {
        let Some((mut values, Some(share))) = all else { return Ok(None) };
        if !(0.0..=1.0).contains(&share) {
            return Err(rusqlite::Error::UserFunctionError(
                "a percentile is between 0 and 1".into(),
            ));
        }
        let rank = (share * values.len() as f64).ceil().max(1.0) as usize - 1;
        let rank = rank.min(values.len().saturating_sub(1));
        if values.is_empty() {
            return Ok(None);
        }
        let by_value = |one: &Value, two: &Value| compare(one.into(), two.into());
        let (_, found, _) = values.select_nth_unstable_by(rank, by_value);
        Ok(Some(std::mem::replace(found, Value::Null)))
    }
}

/// Variance and standard deviation by Welford's method.
#[derive(Clone, Copy)]
enum VarianceFunction {
    PopulationVariance,
    SampleVariance,
    PopulationStdDev,
    SampleStdDev,
}

#[derive(Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Aggregate<Moments, Option<f64>> for VarianceFunction {
    fn init(&self, _: &mut Context<'_>) -> Result<Moments> {
        Ok(Moments::default())
    }

    fn step(&self, of: &mut Context<'_>, moments: &mut Moments) -> Result<()> {
        if let Some(number) = of.get::<Option<f64>>(0)? {
            moments.count += 1.0;
            let before = number - moments.mean;
            moments.mean += before / moments.count;
            moments.squares += before * (number - moments.mean);
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, moments: Option<Moments>) -> Result<Option<f64>> {
        let Moments { count, squares, .. } = moments.unwrap_or_default();
        let degrees = match self {
            Self::PopulationVariance | Self::PopulationStdDev => count,
            Self::SampleVariance | Self::SampleStdDev => count - 1.0,
        };
        if degrees <= 0.0 {
            return Ok(None);
        }
        let variance = squares / degrees;
        Ok(Some(match self {
            Self::PopulationVariance | Self::SampleVariance => variance,
            Self::PopulationStdDev | Self::SampleStdDev => variance.sqrt(),
        }))
    }
}

/// `geometric_mean(x)`
struct GeometricMean;

impl Aggregate<(f64, f64), Option<f64>> for GeometricMean {
    fn init(&self, _: &mut Context<'_>) -> Result<(f64, f64)> {
        Ok((0.0, 0.0))
    }

    fn step(&self, of: &mut Context<'_>, (count, logs): &mut (f64, f64)) -> Result<()> {
        if let Some(number) = of.get::<Option<f64>>(0)? {
            *count += 1.0;
            *logs += number.ln();
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, sums: Option<(f64, f64)>) -> Result<Option<f64>> {
        Ok(sums.filter(|(count, _)| *count > 0.0).map(|(count, logs)| (logs / count).exp()))
    }
}
