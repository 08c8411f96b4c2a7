//! The settings of the functions: those of template.yaml, with the names of the local stores.
//!
//! The template's `Globals` are the only definition of a setting. The local value is the same,
//! except where [`DevStack`](crate::DevStack) overrides it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use yaml_serde::Value;

/// The outputs of the stores, by name.
pub(crate) type Outputs = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Template {
    parameters: BTreeMap<String, Parameter>,
    globals: Globals,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    default: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Globals {
    function: Function,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Function {
    environment: Environment,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    variables: BTreeMap<String, Value>,
}

/// `Globals.Function.Environment.Variables` of the template, with the defaults of its parameters.
pub(crate) fn from_template(template: &str, outputs: &Outputs) -> Result<BTreeMap<String, String>> {
    let template: Template = yaml_serde::from_str(template).context("template.yaml")?;
    template
        .globals
        .function
        .environment
        .variables
        .iter()
        .map(|(name, value)| {
            let value = resolve(value, &template.parameters, outputs)
                .with_context(|| format!("template.yaml, variable {name} of the functions"))?;
            Ok((name.clone(), value))
        })
        .collect()
}

/// The maximum size of a response. The router of cargo-lambda 1.9.2 loses some responses of 3 MB
/// and more, and the client waits without end. It lost none of 50 responses below 1.8 MB.
pub(crate) fn max_response_bytes() -> (String, String) {
    ("MAX_RESPONSE_BYTES".to_owned(), "1500000".to_owned())
}

fn resolve(
    value: &Value,
    parameters: &BTreeMap<String, Parameter>,
    outputs: &Outputs,
) -> Result<String> {
    let Value::Tagged(tagged) = value else {
        return scalar(value);
    };
    let argument = scalar(&tagged.value)?;
    if tagged.tag == "Ref" {
        let parameter =
            parameters.get(&argument).with_context(|| format!("no parameter {argument}"))?;
        let default = parameter.default.as_ref();
        return scalar(default.with_context(|| format!("parameter {argument} has no default"))?);
    }
    match argument.strip_prefix("Stores.Outputs.") {
        Some(output) if tagged.tag == "GetAtt" => outputs
            .get(output)
            .cloned()
            .with_context(|| format!("infra/stores has no output {output}")),
        _ => bail!("cannot evaluate {} {argument}", tagged.tag),
    }
}

fn scalar(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(yes) => Ok(yes.to_string()),
        _ => bail!("expected a string, a number or a boolean"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"
Parameters:
  Days: {Type: Number, Default: 365}
  Issuer: {Type: String}
Globals:
  Function:
    Environment:
      Variables:
        TABLE: !GetAtt Stores.Outputs.TableName
        DAYS: !Ref Days
        AUTH: jwt
"#;

    fn outputs() -> Outputs {
        BTreeMap::from([("TableName".to_owned(), "stores-Table-1".to_owned())])
    }

    #[test]
    fn variable_is_resolved_from_output_default_or_literal() {
        let settings = from_template(TEMPLATE, &outputs()).unwrap();
        let expected = [("AUTH", "jwt"), ("DAYS", "365"), ("TABLE", "stores-Table-1")];
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(settings, expected);
    }

    #[test]
    fn unresolvable_variable_is_an_error_with_its_cause() {
        for (before, after, named) in [
            ("Outputs.TableName", "Outputs.Other", "no output Other"),
            ("!Ref Days", "!Ref Weeks", "no parameter Weeks"),
            ("!Ref Days", "!Ref Issuer", "Issuer has no default"),
            ("!Ref Days", "!Sub Days", "cannot evaluate"),
        ] {
            let template = TEMPLATE.replace(before, after);
            let error = format!("{:#}", from_template(&template, &outputs()).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn template_of_the_project_is_resolved_with_the_outputs_of_the_stores() {
        let template = include_str!("../../../template.yaml");
        let stores = include_str!("../../../infra/stores/template.yaml");
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Stores {
            outputs: BTreeMap<String, Value>,
        }
        let stores: Stores = yaml_serde::from_str(stores).unwrap();
        let outputs = stores.outputs.into_keys().map(|name| (name.clone(), name)).collect();
        let settings = from_template(template, &outputs).unwrap();
        assert_eq!(settings["DEVICES_TABLE"], "DevicesTableName");
    }
}
