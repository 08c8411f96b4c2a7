//! Queries: WITH, SELECT, GROUP BY, HAVING.

use std::ops::ControlFlow;

use sqlparser::ast::{
    CastKind, Distinct, Expr, Function, GroupByExpr, Ident, ObjectName, ObjectNamePart, OrderBy,
    Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Visit, Visitor,
    WildcardAdditionalOptions, With,
};

use super::{
    Catalog, OutputColumn, Translation, TranslationError, aggregate,
    expression::{ExprContext, RowContext, SqlExpr},
    from::renamed,
    literal,
    order::{invalid_position, limit, order_exprs, ordinal, positions},
    scope::{Column, Scope},
};

/// The translation of one query.
pub(super) struct Translator<'c> {
    pub(super) catalog: &'c dyn Catalog,
    pub(super) now: i64,
    /// The common table expressions in scope, the innermost last.
    pub(super) common_tables: Vec<CommonTable>,
    aliases: usize,
}

/// A common table expression.
pub(super) struct CommonTable {
    pub(super) name: String,
    pub(super) sql_name: String,
    pub(super) columns: Vec<OutputColumn>,
}

/// An item of the result.
pub(super) struct SelectedItem {
    name: String,
    /// The alias, by which ORDER BY can refer to the item.
    pub(super) alias: Option<String>,
    pub(super) sql: SqlExpr,
}

impl<'c> Translator<'c> {
    pub(super) fn new(catalog: &'c dyn Catalog, now: i64) -> Self {
        Self { catalog, now, common_tables: Vec::new(), aliases: 0 }
    }

    pub(super) fn translate(mut self, query: &Query) -> Result<Translation, TranslationError> {
        self.query(query, None)
    }

    /// Returns an unused name in SQLite.
    pub(super) fn alias(&mut self, prefix: char) -> String {
        self.aliases += 1;
        format!("{prefix}{}", self.aliases)
    }

    /// Translates a query or subquery; its columns are `c0`, `c1` and so on in SQLite.
    pub(super) fn query(
        &mut self,
        query: &Query,
        outer: Option<&Scope<'_>>,
    ) -> Result<Translation, TranslationError> {
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
            return Err(TranslationError::unsupported("a clause after the query"));
        }
        let known = self.common_tables.len();
        let definitions = with.as_ref().map(|with| self.common_tables(with, outer)).transpose()?;
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
        self.common_tables.truncate(known);
        translation.sql.push_str(&limit(limit_clause.as_ref())?);
        if let Some(definitions) = definitions {
            translation.sql = format!("WITH {definitions} {}", translation.sql);
        }
        Ok(translation)
    }

    /// Translates the definitions of a WITH clause and adds them to the scope.
    fn common_tables(
        &mut self,
        with: &With,
        outer: Option<&Scope<'_>>,
    ) -> Result<String, TranslationError> {
        if with.recursive {
            return Err(TranslationError::unsupported("WITH RECURSIVE"));
        }
        let mut definitions = Vec::new();
        for cte in &with.cte_tables {
            let translation = self.query(&cte.query, outer)?;
            let columns = renamed(translation.columns, &cte.alias)?;
            let sql_name = self.alias('w');
            definitions.push(format!("{sql_name} AS ({})", translation.sql));
            let name = cte.alias.name.value.clone();
            self.common_tables.push(CommonTable { name, sql_name, columns });
        }
        Ok(definitions.join(", "))
    }

    pub(super) fn select(
        &mut self,
        select: &Select,
        order_by: Option<&OrderBy>,
        outer: Option<&Scope<'_>>,
    ) -> Result<Translation, TranslationError> {
        reject_unsupported_clauses(select)?;
        let mut scope = Scope { relations: Vec::new(), outer };
        let from = self.from(&select.from, &mut scope)?;
        let each = |clause| ExprContext { scope: &scope, row_context: RowContext::PerRow(clause) };

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
        let rows = if grouped { RowContext::Grouped(&keys) } else { RowContext::Output };
        let context = ExprContext { scope: &scope, row_context: rows };

        let items = self.items(&select.projection, context)?;
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
            let having = self.condition(having, context)?.text;
            // SQLite requires GROUP BY before HAVING; a constant one gives a single group.
            let group = if keys.is_empty() { " GROUP BY NULL" } else { "" };
            sql.push_str(&format!("{group} HAVING {having}"));
        }
        if !order.is_empty() {
            let mut texts = Vec::new();
            for key in order {
                texts.push(self.order_key(key, &items, context)?);
            }
            sql.push_str(&format!(" ORDER BY {}", texts.join(", ")));
        }
        let columns =
            items.into_iter().map(|item| OutputColumn { name: item.name, of: item.sql.of });
        Ok(Translation { sql, columns: columns.collect() })
    }

    fn items(
        &mut self,
        projection: &[SelectItem],
        context: ExprContext<'_>,
    ) -> Result<Vec<SelectedItem>, TranslationError> {
        let mut items = Vec::new();
        for item in projection {
            match item {
                SelectItem::Wildcard(options) => {
                    check_wildcard(options)?;
                    self.wildcard(&mut items, None, context)?;
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(ObjectName(path)),
                    options,
                ) => {
                    check_wildcard(options)?;
                    let Some(ObjectNamePart::Identifier(relation)) = path.last() else {
                        return Err(TranslationError::unsupported(format!("{item}")));
                    };
                    self.wildcard(&mut items, Some(relation), context)?;
                }
                SelectItem::UnnamedExpr(expression) => {
                    let sql = self.expression(expression, context)?;
                    let name =
                        implied_name(expression).unwrap_or_else(|| format!("_col{}", items.len()));
                    items.push(SelectedItem { name, alias: None, sql });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let sql = self.expression(expr, context)?;
                    let name = alias.value.clone();
                    items.push(SelectedItem { alias: Some(name.clone()), name, sql });
                }
                other => return Err(TranslationError::unsupported(format!("{other}"))),
            }
        }
        Ok(items)
    }

    fn wildcard(
        &mut self,
        items: &mut Vec<SelectedItem>,
        relation: Option<&Ident>,
        context: ExprContext<'_>,
    ) -> Result<(), TranslationError> {
        let columns = context.scope.all(relation)?;
        if columns.is_empty() {
            return Err(TranslationError::new("SELECT * needs a FROM"));
        }
        for Column { name, sql } in columns {
            if let RowContext::Grouped(keys) = context.row_context
                && !keys.contains(&sql.text)
            {
                return Err(TranslationError::new(format!(
                    "'{name}' must be an aggregate expression or appear in GROUP BY clause"
                )));
            }
            items.push(SelectedItem { name, alias: None, sql });
        }
        Ok(())
    }

    /// Returns the expressions of GROUP BY, where numbers refer to items of SELECT; `None` without
    /// GROUP BY.
    fn group_keys(
        &mut self,
        select: &Select,
        context: ExprContext<'_>,
    ) -> Result<Option<Vec<String>>, TranslationError> {
        let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by else {
            return Err(TranslationError::unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(TranslationError::unsupported("a modifier of GROUP BY"));
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
            keys.push(self.expression(expression, context)?.text);
        }
        Ok(Some(keys))
    }
}

/// Rejects the clauses that the parser supports and Timestream does not.
fn reject_unsupported_clauses(select: &Select) -> Result<(), TranslationError> {
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
        Some((_, what)) => Err(TranslationError::unsupported(what)),
        None => Ok(()),
    }
}

fn check_wildcard(options: &WildcardAdditionalOptions) -> Result<(), TranslationError> {
    if options.to_string().is_empty() {
        Ok(())
    } else {
        Err(TranslationError::unsupported(format!("*{options}")))
    }
}

fn selected(projection: &[SelectItem], position: usize) -> Result<&Expr, TranslationError> {
    match position.checked_sub(1).and_then(|index| projection.get(index)) {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Ok(expr),
        _ => Err(invalid_position(position)),
    }
}

/// Returns the name of a column without an alias.
fn implied_name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(name) if literal::interval_word(&name.value).is_none() => {
            Some(name.value.clone())
        }
        Expr::CompoundIdentifier(path) => path.last().map(|name| name.value.clone()),
        Expr::Nested(inner) => implied_name(inner),
        Expr::Cast { kind: CastKind::DoubleColon, expr, data_type, .. } => {
            let name = implied_name(expr)?;
            Some(format!("{name}::{}", data_type.to_string().to_lowercase()))
        }
        _ => None,
    }
}

/// Returns whether the node contains an aggregate outside subqueries and windows.
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
                    if self.subqueries == 0 && aggregate::is_aggregate(name) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    node.visit(&mut Finder { subqueries: 0 }).is_break()
}
