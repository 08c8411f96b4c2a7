//! Aggregate functions.

use sqlparser::ast::{DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, ObjectName};

use super::{
    TranslationError,
    expression::{ExprContext, RowContext, SqlExpr},
    function::{arguments, lower_name},
    select::Translator,
};
use crate::value::Type;

const NAMES: [&str; 22] = [
    "any_value",
    "approx_distinct",
    "approx_percentile",
    "arbitrary",
    "avg",
    "bool_and",
    "bool_or",
    "count",
    "count_if",
    "every",
    "geometric_mean",
    "max",
    "max_by",
    "min",
    "min_by",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "variance",
    "var_pop",
    "var_samp",
];

pub(super) fn is_aggregate(name: &ObjectName) -> bool {
    lower_name(name).is_some_and(|name| NAMES.contains(&name.as_str()))
}

impl Translator<'_> {
    /// Translates a call of an aggregate function; `place` is the context of the call.
    pub(super) fn aggregate(
        &mut self,
        name: &str,
        call: &Function,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        match context.row_context {
            RowContext::Grouped(_) => {}
            RowContext::PerRow(clause) => {
                return Err(TranslationError::new(format!(
                    "{name}() is an aggregate: {clause} takes none"
                )));
            }
            RowContext::InAggregate => {
                return Err(TranslationError::new(format!(
                    "{name}() stands within another aggregate"
                )));
            }
            RowContext::Output => {
                return Err(TranslationError::new(format!(
                    "{name}() is an aggregate and not allowed here"
                )));
            }
        }
        let inner = context.with_row_context(RowContext::InAggregate);
        let (list, distinct) = arguments(call)?;
        let filter = match &call.filter {
            Some(filter) => {
                format!(" FILTER (WHERE {})", self.condition(filter, inner)?.text)
            }
            None => String::new(),
        };
        if name == "count" && matches!(list, [] | [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
        {
            return Ok(SqlExpr::new(format!("count(*){filter}"), Type::Bigint));
        }
        let arguments = self.values(list, inner)?;
        let distinct = match distinct {
            Some(DuplicateTreatment::Distinct) if arguments.len() == 1 => "DISTINCT ",
            Some(DuplicateTreatment::Distinct) => {
                return Err(TranslationError::unsupported(format!(
                    "{name}(DISTINCT …) of several values"
                )));
            }
            _ => "",
        };
        let of: Vec<Type> = arguments.iter().map(|argument| argument.of).collect();
        let (function, of) = plan(name, &of)?;
        let values = arguments.into_iter().map(|argument| argument.text).collect::<Vec<_>>();
        let values = values.join(", ");
        let distinct = if name == "approx_distinct" { "DISTINCT " } else { distinct };
        let values = match name {
            "count_if" => format!("CASE WHEN {values} THEN 1 END"),
            _ => values,
        };
        Ok(SqlExpr::new(format!("{function}({distinct}{values}){filter}"), of))
    }
}

/// Returns the function in SQLite and the type of its result.
fn plan(name: &str, of: &[Type]) -> Result<(&'static str, Type), TranslationError> {
    use Type::{Bigint, Boolean, Double, Integer, IntervalDayToSecond, Unknown};
    Ok(match (name, of) {
        ("count" | "approx_distinct", [_]) => ("count", Bigint),
        ("count_if", [Boolean]) => ("count", Bigint),
        ("avg", [one]) if one.is_numeric() || *one == Unknown => ("avg", Double),
        ("sum", [Integer | Bigint]) => ("sum", Bigint),
        ("sum", [one @ (Double | IntervalDayToSecond | Unknown)]) => ("sum", *one),
        ("min" | "arbitrary" | "any_value", [one]) => ("min", *one),
        ("max", [one]) => ("max", *one),
        ("bool_and" | "every", [Boolean]) => ("min", Boolean),
        ("bool_or", [Boolean]) => ("max", Boolean),
        ("max_by", [one, _]) => ("ts_max_by", *one),
        ("min_by", [one, _]) => ("ts_min_by", *one),
        ("approx_percentile", [one, Double | Integer]) if one.is_numeric() => {
            ("ts_percentile", *one)
        }
        ("stddev" | "stddev_samp", [one]) if one.is_numeric() => ("ts_stddev_samp", Double),
        ("stddev_pop", [one]) if one.is_numeric() => ("ts_stddev_pop", Double),
        ("variance" | "var_samp", [one]) if one.is_numeric() => ("ts_var_samp", Double),
        ("var_pop", [one]) if one.is_numeric() => ("ts_var_pop", Double),
        ("geometric_mean", [one]) if one.is_numeric() => ("ts_geometric_mean", Double),
        _ => return Err(super::function::unknown_function(name, of)),
    })
}
