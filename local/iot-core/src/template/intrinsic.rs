//! The intrinsic functions of CloudFormation that the emulator evaluates: references to outputs.

use yaml_serde::Value;

use super::Outputs;

/// Returns the text of a property: itself, or the output that `!GetAtt Stores.Outputs.NAME` or
/// `!Ref NAME` refers to, in short or long form.
pub(super) fn resolve(value: &Value, outputs: &Outputs) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Tagged(tagged) if tagged.tag == "Ref" => reference(&tagged.value, outputs),
        Value::Tagged(tagged) if tagged.tag == "GetAtt" => attribute(&tagged.value, outputs),
        Value::Tagged(tagged) => Err(format!("{} is not supported", tagged.tag)),
        Value::Mapping(mapping) => {
            if let Some(name) = mapping.get("Ref") {
                reference(name, outputs)
            } else if let Some(path) = mapping.get("Fn::GetAtt") {
                attribute(path, outputs)
            } else {
                Err("only Ref and Fn::GetAtt are supported".to_owned())
            }
        }
        _ => Err("is not a string".to_owned()),
    }
}

fn reference(name: &Value, outputs: &Outputs) -> Result<String, String> {
    output(name.as_str().ok_or("!Ref needs a name")?, outputs)
}

fn attribute(path: &Value, outputs: &Outputs) -> Result<String, String> {
    let path = match path {
        Value::String(path) => path.clone(),
        Value::Sequence(parts) => {
            parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(".")
        }
        _ => return Err("!GetAtt needs a path".to_owned()),
    };
    match path.split_once(".Outputs.") {
        Some((_stack, name)) => output(name, outputs),
        None => Err(format!(
            "!GetAtt {path} is not an output of a nested stack (STACK.Outputs.NAME), the only supported attribute"
        )),
    }
}

fn output(name: &str, outputs: &Outputs) -> Result<String, String> {
    outputs
        .get(name)
        .cloned()
        .ok_or_else(|| format!("{name} is not among the outputs of the stores stack"))
}
