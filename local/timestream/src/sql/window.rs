//! Window functions such as `lag(x) OVER (PARTITION BY device_id ORDER BY time)`.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, Value, WindowFrame, WindowFrameBound,
    WindowFrameUnits, WindowSpec, WindowType,
};

use super::{
    TranslationError,
    expression::{ExprContext, RowContext, SqlExpr},
    function::{arguments, unknown_function},
    select::Translator,
};
use crate::value::Type;

impl Translator<'_> {
    pub(super) fn windowed(
        &mut self,
        name: &str,
        call: &Function,
        window: &WindowType,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        if matches!(context.row_context, RowContext::PerRow(_) | RowContext::InAggregate) {
            return Err(TranslationError::new("a window stands only in SELECT and ORDER BY"));
        }
        if call.filter.is_some() {
            return Err(TranslationError::unsupported("FILTER with a window"));
        }
        let WindowType::WindowSpec(WindowSpec {
            window_name: None,
            partition_by,
            order_by,
            window_frame,
        }) = window
        else {
            return Err(TranslationError::unsupported("a named window"));
        };
        let (list, None) = arguments(call)? else {
            return Err(TranslationError::unsupported("DISTINCT with a window"));
        };
        let all_rows = matches!(list, [] | [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        let values = if all_rows { Vec::new() } else { self.values(list, context)? };
        let of: Vec<Type> = values.iter().map(|value| value.of).collect();
        let (function, of) = plan(name, &of)?;
        let values: Vec<String> = values.into_iter().map(|value| value.text).collect();
        let values = if name == "count" && all_rows { "*".to_owned() } else { values.join(", ") };

        let mut over = Vec::new();
        if !partition_by.is_empty() {
            let mut keys = Vec::new();
            for key in partition_by {
                keys.push(self.expression(key, context)?.text);
            }
            over.push(format!("PARTITION BY {}", keys.join(", ")));
        }
        if !order_by.is_empty() {
            over.push(format!("ORDER BY {}", self.window_order(order_by, context)?));
        }
        if let Some(frame) = window_frame {
            over.push(frame_text(frame)?);
        }
        Ok(SqlExpr::new(format!("{function}({values}) OVER ({})", over.join(" ")), of))
    }
}

fn plan(name: &str, of: &[Type]) -> Result<(&'static str, Type), TranslationError> {
    use Type::{Bigint, Double, Integer, Unknown};
    Ok(match (name, of) {
        ("row_number", []) => ("row_number", Bigint),
        ("rank", []) => ("rank", Bigint),
        ("dense_rank", []) => ("dense_rank", Bigint),
        ("percent_rank", []) => ("percent_rank", Double),
        ("cume_dist", []) => ("cume_dist", Double),
        ("ntile", [Integer | Bigint]) => ("ntile", Bigint),
        ("lag", [one] | [one, Integer | Bigint]) => ("lag", *one),
        ("lead", [one] | [one, Integer | Bigint]) => ("lead", *one),
        ("lag", [one, Integer | Bigint, default]) if one == default => ("lag", *one),
        ("lead", [one, Integer | Bigint, default]) if one == default => ("lead", *one),
        ("first_value", [one]) => ("first_value", *one),
        ("last_value", [one]) => ("last_value", *one),
        ("count", [] | [_]) => ("count", Bigint),
        ("avg", [one]) if one.is_numeric() || *one == Unknown => ("avg", Double),
        ("sum", [Integer | Bigint]) => ("sum", Bigint),
        ("sum", [Double]) => ("sum", Double),
        ("min", [one]) => ("min", *one),
        ("max", [one]) => ("max", *one),
        _ => return Err(unknown_function(&format!("{name} over a window"), of)),
    })
}

fn frame_text(frame: &WindowFrame) -> Result<String, TranslationError> {
    let units = match frame.units {
        WindowFrameUnits::Rows => "ROWS",
        WindowFrameUnits::Range => "RANGE",
        WindowFrameUnits::Groups => {
            return Err(TranslationError::unsupported("GROUPS in a window"));
        }
    };
    let start = bound_text(&frame.start_bound)?;
    Ok(match &frame.end_bound {
        Some(end) => format!("{units} BETWEEN {start} AND {}", bound_text(end)?),
        None => format!("{units} {start}"),
    })
}

fn bound_text(bound: &WindowFrameBound) -> Result<String, TranslationError> {
    let (distance, side) = match bound {
        WindowFrameBound::CurrentRow => return Ok("CURRENT ROW".to_owned()),
        WindowFrameBound::Preceding(distance) => (distance, "PRECEDING"),
        WindowFrameBound::Following(distance) => (distance, "FOLLOWING"),
    };
    let distance = match distance.as_deref() {
        None => "UNBOUNDED".to_owned(),
        Some(Expr::Value(value)) => match &value.value {
            Value::Number(digits, false) if digits.parse::<u32>().is_ok() => digits.clone(),
            _ => {
                return Err(TranslationError::unsupported(
                    "a window bound that is not a number of rows",
                ));
            }
        },
        Some(_) => {
            return Err(TranslationError::unsupported(
                "a window bound that is not a number of rows",
            ));
        }
    };
    Ok(format!("{distance} {side}"))
}
