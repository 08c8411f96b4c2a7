//! Queries: WITH, SELECT, FROM, GROUP BY, ORDER BY, LIMIT, UNION.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, Function, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, LimitClause,
    ObjectName, ObjectNamePart, OrderBy, OrderByExpr, OrderByKind, OrderBySort, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Spanned,
    TableAlias, TableFactor, TableWithJoins, Value, Visit, Visitor, WildcardAdditionalOptions,
};

use super::{
    Catalog, OutputColumn, Refusal, Translation, aggregate,
    expression::{Place, Rows, Sql},
    scope::{Column, Relation, Scope},
};

/// One translation of one query.
pub(super) struct Translator<'c> {
    catalog: &'c dyn Catalog,
    pub(super) now: i64,
    /// The common table expressions that can be named here, the innermost last.
    named: Vec<Named>,
    aliases: usize,
}

struct Named {
    name: String,
    sql_name: String,
    columns: Vec<OutputColumn>,
}

/// An item of the answer.
struct Item {
    name: String,
    /// What ORDER BY can call it: only what has an alias.
    alias: Option<String>,
    sql: Sql,
}

impl<'c> Translator<'c> {
    pub(super) fn new(catalog: &'c dyn Catalog, now: i64) -> Self {
        Self { catalog, now, named: Vec::new(), aliases: 0 }
    }

    pub(super) fn translate(mut self, query: &Query) -> Result<Translation, Refusal> {
        self.query(query, None)
    }

    fn alias(&mut self, prefix: char) -> String {
        self.aliases += 1;
        format!("{prefix}{}", self.aliases)
    }

    /// A query or subquery; its columns are `c0`, `c1` and so on in SQLite.
    pub(super) fn query(
        &mut self,
        query: &Query,
        outer: Option<&Scope<'_>>,
    ) -> Result<Translation, Refusal> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if fetch.is_some()
            || !locks.is_empty()
            || for_clause.is_some()
            || settings.is_some()
            || format_clause.is_some()
            || !pipe_operators.is_empty()
        {
            return Err(Refusal::unsupported("a clause after the query"));
        }
        let known = self.named.len();
        let mut definitions = Vec::new();
        if let Some(with) = with {
            if with.recursive {
                return Err(Refusal::unsupported("WITH RECURSIVE"));
            }
            for cte in &with.cte_tables {
                let translation = self.query(&cte.query, outer)?;
                let columns = renamed(translation.columns, &cte.alias)?;
                let sql_name = self.alias('w');
                definitions.push(format!("{sql_name} AS ({})", translation.sql));
                self.named.push(Named { name: cte.alias.name.value.clone(), sql_name, columns });
            }
        }
        let mut translation = match body.as_ref() {
            SetExpr::Select(select) => self.select(select, order_by.as_ref(), outer)?,
            other => {
                let mut translation = self.set(other, outer)?;
                if let Some(order_by) = order_by {
                    let keys = positions(order_by, &translation.columns)?;
                    translation.sql.push_str(&format!(" ORDER BY {keys}"));
                }
                translation
            }
        };
        self.named.truncate(known);
        translation.sql.push_str(&limit(limit_clause.as_ref())?);
        if !definitions.is_empty() {
            translation.sql = format!("WITH {} {}", definitions.join(", "), translation.sql);
        }
        Ok(translation)
    }

    /// What is no SELECT: a query in parentheses, or a UNION.
    fn set(&mut self, body: &SetExpr, outer: Option<&Scope<'_>>) -> Result<Translation, Refusal> {
        match body {
            SetExpr::Select(select) => self.select(select, None, outer),
            SetExpr::Query(query) => {
                let Translation { sql, columns } = self.query(query, outer)?;
                Ok(Translation { sql: format!("SELECT * FROM ({sql})"), columns })
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let all = match set_quantifier {
                    SetQuantifier::All => " ALL",
                    SetQuantifier::Distinct | SetQuantifier::None => "",
                    other => return Err(Refusal::unsupported(format!("{op} {other}"))),
                };
                let word = match op {
                    SetOperator::Union => "UNION",
                    SetOperator::Intersect if all.is_empty() => "INTERSECT",
                    SetOperator::Except if all.is_empty() => "EXCEPT",
                    other => return Err(Refusal::unsupported(format!("{other}{all}"))),
                };
                let (left, right) = (self.set(left, outer)?, self.set(right, outer)?);
                let columns = common_columns(&left.columns, &right.columns)?;
                let sql = format!(
                    "{} {word}{all} {}",
                    promoted(&left, &columns),
                    promoted(&right, &columns)
                );
                Ok(Translation { sql, columns })
            }
            _ => Err(Refusal::unsupported("a query that is no SELECT")),
        }
    }

    fn select(
        &mut self,
        select: &Select,
        order_by: Option<&OrderBy>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Translation, Refusal> {
        refuse_odd_clauses(select)?;
        let mut scope = Scope { relations: Vec::new(), outer };
        let from = self.from(&select.from, &mut scope)?;
        let each = |clause| Place { scope: &scope, rows: Rows::Each(clause) };

        let mut sql = "SELECT ".to_owned();
        if let Some(Distinct::Distinct) = select.distinct {
            sql.push_str("DISTINCT ");
        }
        let condition = match &select.selection {
            Some(condition) => Some(self.condition(condition, each("WHERE"))?.text),
            None => None,
        };
        let keys = self.group_keys(select, each("GROUP BY"))?;
        let order = order_exprs(order_by)?;
        let grouped = keys.is_some()
            || select.having.is_some()
            || select.projection.iter().any(has_aggregate)
            || order.iter().any(|key| has_aggregate(&key.expr));
        let keys = keys.unwrap_or_default();
        let rows = if grouped { Rows::Grouped(&keys) } else { Rows::Selected };
        let place = Place { scope: &scope, rows };

        let items = self.items(&select.projection, place)?;
        let texts =
            items.iter().enumerate().map(|(at, item)| format!("{} AS c{at}", item.sql.text));
        sql.push_str(&texts.collect::<Vec<_>>().join(", "));
        sql.push_str(&from);
        if let Some(condition) = condition {
            sql.push_str(&format!(" WHERE {condition}"));
        }
        if !keys.is_empty() {
            sql.push_str(&format!(" GROUP BY {}", keys.join(", ")));
        }
        if let Some(having) = &select.having {
            let having = self.condition(having, place)?.text;
            // SQLite wants a GROUP BY before HAVING; a constant one is a single group.
            let group = if keys.is_empty() { " GROUP BY NULL" } else { "" };
            sql.push_str(&format!("{group} HAVING {having}"));
        }
        if !order.is_empty() {
            let mut texts = Vec::new();
            for key in order {
                texts.push(self.order_key(key, &items, place)?);
            }
            sql.push_str(&format!(" ORDER BY {}", texts.join(", ")));
        }
        let columns =
            items.into_iter().map(|item| OutputColumn { name: item.name, of: item.sql.of });
        Ok(Translation { sql, columns: columns.collect() })
    }

    fn items(&mut self, projection: &[SelectItem], place: Place<'_>) -> Result<Vec<Item>, Refusal> {
        let mut items = Vec::new();
        for item in projection {
            match item {
                SelectItem::Wildcard(options) => {
                    plain_wildcard(options)?;
                    self.wildcard(&mut items, None, place)?;
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(ObjectName(path)),
                    options,
                ) => {
                    plain_wildcard(options)?;
                    let Some(ObjectNamePart::Identifier(relation)) = path.last() else {
                        return Err(Refusal::unsupported(format!("{item}")));
                    };
                    self.wildcard(&mut items, Some(relation), place)?;
                }
                SelectItem::UnnamedExpr(expression) => {
                    let sql = self.expression(expression, place)?;
                    let name =
                        implied_name(expression).unwrap_or_else(|| format!("_col{}", items.len()));
                    items.push(Item { name, alias: None, sql });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let sql = self.expression(expr, place)?;
                    let name = alias.value.clone();
                    items.push(Item { alias: Some(name.clone()), name, sql });
                }
                other => return Err(Refusal::unsupported(format!("{other}"))),
            }
        }
        Ok(items)
    }

    fn wildcard(
        &mut self,
        items: &mut Vec<Item>,
        relation: Option<&Ident>,
        place: Place<'_>,
    ) -> Result<(), Refusal> {
        let columns = place.scope.all(relation)?;
        if columns.is_empty() {
            return Err(Refusal::new("SELECT * needs a FROM"));
        }
        for Column { name, sql } in columns {
            if let Rows::Grouped(keys) = place.rows
                && !keys.contains(&sql.text)
            {
                return Err(Refusal::new(format!(
                    "'{name}' must be an aggregate expression or appear in GROUP BY clause"
                )));
            }
            items.push(Item { name, alias: None, sql });
        }
        Ok(())
    }

    /// The expressions of GROUP BY; a number is an item of SELECT. `None`: there is no GROUP BY.
    fn group_keys(
        &mut self,
        select: &Select,
        place: Place<'_>,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by else {
            return Err(Refusal::unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(Refusal::unsupported("a modifier of GROUP BY"));
        }
        if expressions.is_empty() {
            return Ok(None);
        }
        let mut keys = Vec::new();
        for expression in expressions {
            let expression = match ordinal(expression) {
                None => expression,
                Some(position) => selected(&select.projection, position)?,
            };
            keys.push(self.expression(expression, place)?.text);
        }
        Ok(Some(keys))
    }

    /// A key of ORDER BY: an item by its alias or its number, or any expression.
    fn order_key(
        &mut self,
        key: &OrderByExpr,
        items: &[Item],
        place: Place<'_>,
    ) -> Result<String, Refusal> {
        let by_alias = match &key.expr {
            Expr::Identifier(name) => items.iter().position(|item| {
                item.alias.as_ref().is_some_and(|alias| alias.eq_ignore_ascii_case(&name.value))
            }),
            expression => match ordinal(expression) {
                Some(number) if (1..=items.len()).contains(&number) => Some(number - 1),
                Some(number) => return Err(no_such_item(number)),
                None => None,
            },
        };
        let (text, nullable) = match by_alias.and_then(|at| items.get(at).map(|item| (at, item))) {
            Some((at, item)) => ((at + 1).to_string(), item.sql.nullable),
            None => {
                let sql = self.expression(&key.expr, place)?;
                // A bare number would be taken for the number of an item.
                let text = if sql.is_constant { format!("(0 + {})", sql.text) } else { sql.text };
                (text, sql.nullable)
            }
        };
        Ok(format!("{text}{}", direction(key, nullable)?))
    }

    fn from(
        &mut self,
        tables: &[TableWithJoins],
        scope: &mut Scope<'_>,
    ) -> Result<String, Refusal> {
        let mut text = String::new();
        for table in tables {
            text.push_str(if text.is_empty() { " FROM " } else { " CROSS JOIN " });
            text.push_str(&self.relation(&table.relation, scope)?);
            for join in &table.joins {
                text.push_str(&self.join(join, scope)?);
            }
        }
        Ok(text)
    }

    fn join(&mut self, join: &Join, scope: &mut Scope<'_>) -> Result<String, Refusal> {
        let (word, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => {
                ("JOIN", constraint)
            }
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                ("LEFT JOIN", constraint)
            }
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                ("RIGHT JOIN", constraint)
            }
            JoinOperator::FullOuter(constraint) => ("FULL JOIN", constraint),
            JoinOperator::CrossJoin(constraint) => ("CROSS JOIN", constraint),
            _ => return Err(Refusal::unsupported("this kind of JOIN")),
        };
        let relation = self.relation(&join.relation, scope)?;
        // A side that may be missing makes every column of it nullable.
        for column in scope.relations.iter_mut().flat_map(|relation| &mut relation.columns) {
            column.sql.nullable = true;
        }
        let on = match constraint {
            JoinConstraint::On(condition) => {
                let place = Place { scope, rows: Rows::Each("ON") };
                format!(" ON {}", self.condition(condition, place)?.text)
            }
            JoinConstraint::None if word == "CROSS JOIN" => String::new(),
            JoinConstraint::None => return Err(Refusal::new("a JOIN needs ON")),
            _ => return Err(Refusal::unsupported("JOIN … USING: write it as ON; it")),
        };
        Ok(format!(" {word} {relation}{on}"))
    }

    fn relation(&mut self, factor: &TableFactor, scope: &mut Scope<'_>) -> Result<String, Refusal> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_directives,
                inheritance: None,
            } if with_hints.is_empty() && partitions.is_empty() && index_directives.is_empty() => {
                self.table(name, alias.as_ref(), scope).map_err(|refusal| refusal.at(name.span()))
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let translation = self.query(subquery, scope.outer)?;
                let sql_alias = self.alias('r');
                let columns = match alias {
                    Some(alias) => renamed(translation.columns, alias)?,
                    None => translation.columns,
                };
                let name = alias.as_ref().map(|alias| alias.name.value.clone());
                let columns = columns.into_iter().map(|column| (column.name, column.of));
                scope.relations.push(Relation::of_subquery(name, &sql_alias, columns));
                Ok(format!("({}) AS {sql_alias}", translation.sql))
            }
            other => Err(Refusal::unsupported(format!("FROM {other}"))),
        }
    }

    fn table(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
    ) -> Result<String, Refusal> {
        let parts: Vec<&Ident> = name.0.iter().filter_map(ObjectNamePart::as_ident).collect();
        if alias.is_some_and(|alias| !alias.columns.is_empty() || alias.at.is_some()) {
            return Err(Refusal::unsupported("an alias with columns"));
        }
        let alias = alias.map(|alias| alias.name.value.clone());
        let sql_alias = self.alias('r');
        match parts.as_slice() {
            [name] => {
                let named = self.named.iter().rev();
                let found = named
                    .into_iter()
                    .find(|candidate| candidate.name.eq_ignore_ascii_case(&name.value))
                    .ok_or_else(|| {
                        Refusal::new(format!(
                            "'{}' is no table of WITH; a table is written as \"database\".\"table\"",
                            name.value
                        ))
                    })?;
                let columns = found.columns.iter().map(|column| (column.name.clone(), column.of));
                let name = alias.unwrap_or_else(|| name.value.clone());
                let relation = Relation::of_subquery(Some(name), &sql_alias, columns);
                scope.relations.push(relation);
                Ok(format!("{} AS {sql_alias}", found.sql_name))
            }
            [database, table] => {
                let source = self.catalog.table(&database.value, &table.value)?;
                let columns = source.columns.into_iter().map(|column| Column {
                    name: column.name,
                    sql: Sql {
                        text: format!("{sql_alias}.{}", column.sql_name),
                        of: column.of,
                        nullable: column.nullable,
                        is_constant: false,
                    },
                });
                let name = Some(alias.unwrap_or_else(|| table.value.clone()));
                scope.relations.push(Relation { name, columns: columns.collect() });
                Ok(format!("{} AS {sql_alias}", source.sql_name))
            }
            _ => Err(Refusal::unsupported(format!("the table name {name}"))),
        }
    }

    /// A window's ORDER BY has no aliases and no numbers.
    pub(super) fn window_order(
        &mut self,
        keys: &[OrderByExpr],
        place: Place<'_>,
    ) -> Result<String, Refusal> {
        let mut texts = Vec::new();
        for key in keys {
            let sql = self.expression(&key.expr, place)?;
            texts.push(format!("{}{}", sql.text, direction(key, sql.nullable)?));
        }
        Ok(texts.join(", "))
    }
}

/// Everything that the parser knows and Timestream does not.
fn refuse_odd_clauses(select: &Select) -> Result<(), Refusal> {
    let odd = [
        (matches!(select.distinct, Some(Distinct::On(_))), "DISTINCT ON"),
        (!select.optimizer_hints.is_empty(), "a hint"),
        (select.select_modifiers.is_some(), "a modifier of SELECT"),
        (select.top.is_some(), "TOP"),
        (select.exclude.is_some(), "EXCLUDE"),
        (select.into.is_some(), "INTO"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty(), "CLUSTER BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
        (select.value_table_mode.is_some(), "SELECT AS"),
    ];
    match odd.into_iter().find(|(found, _)| *found) {
        Some((_, what)) => Err(Refusal::unsupported(what)),
        None => Ok(()),
    }
}

fn plain_wildcard(options: &WildcardAdditionalOptions) -> Result<(), Refusal> {
    if options.to_string().is_empty() {
        Ok(())
    } else {
        Err(Refusal::unsupported(format!("*{options}")))
    }
}

/// NULLs come last in either direction, unless the query says otherwise. SQLite has them last in descending order by
/// itself; in ascending order saying so costs it an index, so it is said only where there can be a NULL.
fn direction(key: &OrderByExpr, nullable: bool) -> Result<&'static str, Refusal> {
    if key.with_fill.is_some() {
        return Err(Refusal::unsupported("WITH FILL"));
    }
    let descending = match &key.options.sort {
        None | Some(OrderBySort::Asc) => false,
        Some(OrderBySort::Desc) => true,
        Some(_) => return Err(Refusal::unsupported("ORDER BY … USING")),
    };
    Ok(match (descending, key.options.nulls_first.unwrap_or(false)) {
        (false, false) if nullable => " NULLS LAST",
        (false, _) => "",
        (true, true) => " DESC NULLS FIRST",
        (true, false) => " DESC",
    })
}

fn order_exprs(order_by: Option<&OrderBy>) -> Result<&[OrderByExpr], Refusal> {
    match order_by {
        None => Ok(&[]),
        Some(OrderBy { kind: OrderByKind::Expressions(keys), interpolate: None }) => Ok(keys),
        Some(_) => Err(Refusal::unsupported("this ORDER BY")),
    }
}

/// ORDER BY after a UNION: columns of the answer, by name or number.
fn positions(order_by: &OrderBy, columns: &[OutputColumn]) -> Result<String, Refusal> {
    let mut texts = Vec::new();
    for key in order_exprs(Some(order_by))? {
        let position = match (&key.expr, ordinal(&key.expr)) {
            (_, Some(number)) if (1..=columns.len()).contains(&number) => number,
            (_, Some(number)) => return Err(no_such_item(number)),
            (Expr::Identifier(name), None) => {
                let found = columns
                    .iter()
                    .position(|column| column.name.eq_ignore_ascii_case(&name.value))
                    .ok_or_else(|| {
                        Refusal::new(format!("Column '{}' does not exist", name.value))
                    })?;
                found + 1
            }
            _ => return Err(Refusal::unsupported("an expression in the ORDER BY of a UNION")),
        };
        texts.push(format!("{position}{}", direction(key, true)?));
    }
    Ok(texts.join(", "))
}

fn limit(clause: Option<&LimitClause>) -> Result<String, Refusal> {
    let count = |expression: &Expr| match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits
                .parse::<u32>()
                .map(i64::from)
                .map_err(|_| Refusal::new(format!("{digits} is no number of rows"))),
            _ => Err(Refusal::new("LIMIT and OFFSET take a number")),
        },
        _ => Err(Refusal::new("LIMIT and OFFSET take a number")),
    };
    match clause {
        None => Ok(String::new()),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
            // -1 is SQLite's way to say that there is only an offset.
            let limit = limit.as_ref().map_or(Ok(-1), &count)?;
            let offset = offset.as_ref().map_or(Ok(0), |offset| count(&offset.value))?;
            Ok(match offset {
                0 => format!(" LIMIT {limit}"),
                _ => format!(" LIMIT {limit} OFFSET {offset}"),
            })
        }
        Some(_) => Err(Refusal::unsupported("this form of LIMIT")),
    }
}

/// `GROUP BY 1`
fn ordinal(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn selected(projection: &[SelectItem], position: usize) -> Result<&Expr, Refusal> {
    match position.checked_sub(1).and_then(|index| projection.get(index)) {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Ok(expr),
        _ => Err(no_such_item(position)),
    }
}

fn no_such_item(position: usize) -> Refusal {
    Refusal::new(format!("there is no item {position} of SELECT"))
}

/// What a column of the answer is called that has no alias.
fn implied_name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(name) if super::literal::interval_word(&name.value).is_none() => {
            Some(name.value.clone())
        }
        Expr::CompoundIdentifier(path) => path.last().map(|name| name.value.clone()),
        Expr::Nested(inner) => implied_name(inner),
        Expr::Cast { kind: sqlparser::ast::CastKind::DoubleColon, expr, data_type, .. } => {
            let name = implied_name(expr)?;
            Some(format!("{name}::{}", data_type.to_string().to_lowercase()))
        }
        _ => None,
    }
}

fn renamed(
    mut columns: Vec<OutputColumn>,
    alias: &TableAlias,
) -> Result<Vec<OutputColumn>, Refusal> {
    if alias.at.is_some() {
        return Err(Refusal::unsupported("this alias"));
    }
    if alias.columns.is_empty() {
        return Ok(columns);
    }
    if alias.columns.len() != columns.len() {
        return Err(Refusal::new(format!(
            "'{}' names {} columns of {}",
            alias.name.value,
            alias.columns.len(),
            columns.len()
        )));
    }
    for (column, name) in columns.iter_mut().zip(&alias.columns) {
        column.name = name.name.value.clone();
    }
    Ok(columns)
}

fn common_columns(
    left: &[OutputColumn],
    right: &[OutputColumn],
) -> Result<Vec<OutputColumn>, Refusal> {
    if left.len() != right.len() {
        return Err(Refusal::new(format!(
            "the queries of a UNION have {} and {} columns",
            left.len(),
            right.len()
        )));
    }
    left.iter()
        .zip(right)
        .map(|(left, right)| {
            let of = left.of.common(right.of).ok_or_else(|| {
                let name = &left.name;
                Refusal::new(format!("column '{name}' is {} and {} in a UNION", left.of, right.of))
            })?;
            Ok(OutputColumn { name: left.name.clone(), of })
        })
        .collect()
}

/// A side of a UNION with its columns as values of the common types.
fn promoted(side: &Translation, columns: &[OutputColumn]) -> String {
    let items: Vec<String> = side
        .columns
        .iter()
        .zip(columns)
        .enumerate()
        .map(|(at, (own, common))| {
            let value = Sql::new(format!("c{at}"), own.of).promoted(common.of);
            format!("{} AS c{at}", value.text)
        })
        .collect();
    format!("SELECT {} FROM ({})", items.join(", "), side.sql)
}

/// Whether an aggregate stands in it, other than in a subquery or over a window.
fn has_aggregate(node: &impl Visit) -> bool {
    struct Finder {
        subqueries: usize,
    }
    impl Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.subqueries += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.subqueries -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            match expression {
                Expr::Function(Function { name, over: None, .. })
                    if self.subqueries == 0 && aggregate::is_one(name) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    node.visit(&mut Finder { subqueries: 0 }).is_break()
}
