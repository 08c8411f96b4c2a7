//! Functions over a window: `lag(x) OVER (PARTITION BY device_id ORDER BY time)`.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, Value, WindowFrame, WindowFrameBound,
    WindowFrameUnits, WindowSpec, WindowType,
};

use super::{
    Refusal,
    expression::{Place, Rows, Sql},
    function::{arguments, no_such},
    select::Translator,
};
use crate::value::Type;

impl Translator<'_> {
    pub(super) fn windowed(
        &mut self,
        name: &str,
        call: &Function,
        window: &WindowType,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        if matches!(place.rows, Rows::Each(_) | Rows::Aggregated) {
            return Err(Refusal::new("a window stands only in SELECT and ORDER BY"));
        }
        if call.filter.is_some() {
            return Err(Refusal::unsupported("FILTER with a window"));
        }
        let WindowType::WindowSpec(WindowSpec {
            window_name: None,
            partition_by,
            order_by,
            window_frame,
        }) = window
        else {
            return Err(Refusal::unsupported("a named window"));
        };
        let (list, None) = arguments(call)? else {
            return Err(Refusal::unsupported("DISTINCT with a window"));
        };
        let all_rows = matches!(list, [] | [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        let values = if all_rows { Vec::new() } else { self.values(list, place)? };
        let of: Vec<Type> = values.iter().map(|value| value.of).collect();
        let (function, of) = plan(name, &of)?;
        let values: Vec<String> = values.into_iter().map(|value| value.text).collect();
        let values = if name == "count" && all_rows { "*".to_owned() } else { values.join(", ") };

        let mut over = Vec::new();
        if !partition_by.is_empty() {
            let mut keys = Vec::new();
            for key in partition_by {
                keys.push(self.expression(key, place)?.text);
            }
            over.push(format!("PARTITION BY {}", keys.join(", ")));
        }
        if !order_by.is_empty() {
            over.push(format!("ORDER BY {}", self.window_order(order_by, place)?));
        }
        if let Some(frame) = window_frame {
            over.push(frame_text(frame)?);
        }
        Ok(Sql::new(format!("{function}({values}) OVER ({})", over.join(" ")), of))
    }
}

fn plan(name: &str, of: &[Type]) -> Result<(&'static str, Type), Refusal> {
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
        _ => return Err(no_such(&format!("{name} over a window"), of)),
    })
}

fn frame_text(frame: &WindowFrame) -> Result<String, Refusal> {
    let units = match frame.units {
        WindowFrameUnits::Rows => "ROWS",
        WindowFrameUnits::Range => "RANGE",
        WindowFrameUnits::Groups => return Err(Refusal::unsupported("GROUPS in a window")),
    };
    let start = bound_text(&frame.start_bound)?;
    Ok(match &frame.end_bound {
        Some(end) => format!("{units} BETWEEN {start} AND {}", bound_text(end)?),
        None => format!("{units} {start}"),
    })
}

fn bound_text(bound: &WindowFrameBound) -> Result<String, Refusal> {
    let (distance, side) = match bound {
        WindowFrameBound::CurrentRow => return Ok("CURRENT ROW".to_owned()),
        WindowFrameBound::Preceding(distance) => (distance, "PRECEDING"),
        WindowFrameBound::Following(distance) => (distance, "FOLLOWING"),
    };
    let distance = match distance.as_deref() {
        None => "UNBOUNDED".to_owned(),
        Some(Expr::Value(value)) => match &value.value {
            Value::Number(digits, false) if digits.parse::<u32>().is_ok() => digits.clone(),
            _ => return Err(Refusal::unsupported("a window's bound that is no number of rows")),
        },
        Some(_) => return Err(Refusal::unsupported("a window's bound that is no number of rows")),
    };
    Ok(format!("{distance} {side}"))
}
