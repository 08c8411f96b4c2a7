use super::*;

const TEMPLATE: &str = r#"
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Timeout: 29
    Environment:
      Variables:
        DEVICES_TABLE: !GetAtt Stores.Outputs.DevicesTableName
Resources:
  Stores:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: infra/stores/template.yaml
  IngestFunction:
    Type: AWS::Serverless::Function
    Metadata:
      BuildMethod: rust-cargolambda
      BuildProperties: {Binary: ingest}
    Properties:
      CodeUri: .
      Handler: bootstrap
      Timeout: 60
      Policies:
        - Statement: {Effect: Allow, Action: "s3:PutObject", Resource: !Sub "${Bucket}/*"}
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt Stores.Outputs.IngestQueueArn
            BatchSize: 200
            MaximumBatchingWindowInSeconds: 1
            FunctionResponseTypes: [ReportBatchItemFailures]
  WatchdogFunction:
    Type: AWS::Serverless::Function
    Metadata:
      BuildProperties: {Binary: watchdog}
    Properties:
      Events:
        EveryMinute:
          Type: Schedule
          Properties: {Schedule: rate(1 minute)}
  StatsFunction:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        Health: {Type: HttpApi, Properties: {Path: /health, Method: get}}
  TelemetryRule:
    Type: AWS::IoT::TopicRule
    Properties:
      TopicRulePayload:
        AwsIotSqlVersion: "2016-03-23"
        Sql: >-
          SELECT encode(*, 'base64') AS payload, topic() AS topic,
          timestamp() AS received_at, principal() AS principal FROM 'iot/+/telemetry'
        Actions:
          - Sqs:
              QueueUrl: !GetAtt Stores.Outputs.IngestQueueUrl
              RoleArn: !GetAtt RulesRole.Arn
              UseBase64: false
        ErrorAction:
          S3: {BucketName: !GetAtt Stores.Outputs.ArchiveBucketName, Key: "undelivered/${newuuid()}"}
"#;

const QUEUE_URL: &str = "http://127.0.0.1:4566/000000000000/ingest";
const QUEUE_ARN: &str = "arn:aws:sqs:us-east-1:000000000000:ingest";

fn outputs() -> Outputs {
    Outputs::from([
        ("IngestQueueUrl".to_owned(), QUEUE_URL.to_owned()),
        ("IngestQueueArn".to_owned(), QUEUE_ARN.to_owned()),
    ])
}

fn read(template: &str) -> Result<Routing, TemplateError> {
    Routing::read(template, &outputs())
}

/// Returns the error message for a changed template.
fn error_message(from: &str, to: &str) -> String {
    assert!(TEMPLATE.contains(from), "the fixture does not contain {from}");
    read(&TEMPLATE.replace(from, to)).unwrap_err().to_string()
}

#[test]
fn template_defines_filters_queue_event_sources_and_schedules() {
    assert_eq!(
        read(TEMPLATE).unwrap(),
        Routing {
            topic_filters: vec!["iot/+/telemetry".to_owned()],
            queue_url: QUEUE_URL.to_owned(),
            event_sources: vec![EventSource {
                function: Function { name: "ingest".to_owned(), timeout: Duration::from_secs(60) },
                queue_arn: QUEUE_ARN.to_owned(),
                batch_size: Some(200),
                reports_item_failures: true,
            }],
            schedules: vec![Schedule {
                name: "WatchdogFunctionEveryMinute".to_owned(),
                function: Function {
                    name: "watchdog".to_owned(),
                    timeout: Duration::from_secs(29),
                },
                interval: Duration::from_secs(60),
            }],
        }
    );
}

#[test]
fn long_forms_of_intrinsic_functions_are_equivalent() {
    let long = TEMPLATE
        .replace(
            "!GetAtt Stores.Outputs.IngestQueueUrl",
            "{Fn::GetAtt: [Stores, Outputs.IngestQueueUrl]}",
        )
        .replace("!GetAtt Stores.Outputs.IngestQueueArn", "{Ref: IngestQueueArn}");
    assert_eq!(read(&long).unwrap(), read(TEMPLATE).unwrap());
}

#[test]
fn disabled_event_source_or_schedule_is_ignored() {
    let disabled = TEMPLATE
        .replace("BatchSize: 200", "Enabled: false")
        .replace("{Schedule: rate(1 minute)}", "{Schedule: rate(1 minute), State: DISABLED}");
    let routing = read(&disabled).unwrap();
    assert_eq!((routing.event_sources, routing.schedules), (vec![], vec![]));
}

#[test]
fn template_without_an_enabled_rule_is_rejected() {
    let disabled = TEMPLATE.replace("AwsIotSqlVersion: \"2016-03-23\"", "RuleDisabled: true");
    assert!(matches!(read(&disabled), Err(TemplateError::NoTopicRule)));
}

#[test]
fn error_names_the_resource_and_the_problem() {
    for (from, to, expected) in [
        ("{Binary: ingest}", "{}", "IngestFunction: Metadata.BuildProperties.Binary is missing"),
        (
            "Outputs.IngestQueueUrl",
            "Outputs.InboxUrl",
            "TelemetryRule: Sqs.QueueUrl: InboxUrl is not among the outputs",
        ),
        (
            "!GetAtt Stores.Outputs.IngestQueueArn",
            "!GetAtt IngestQueue.Arn",
            "IngestFunction: event Queue: Queue: !GetAtt IngestQueue.Arn is not an output",
        ),
        (
            "!GetAtt Stores.Outputs.IngestQueueArn",
            "!Sub \"${Queue}\"",
            "IngestFunction: event Queue: Queue: !Sub is not supported",
        ),
        (
            "rate(1 minute)",
            "cron(0 * * * ? *)",
            "WatchdogFunction: event EveryMinute: Schedule \"cron(0 * * * ? *)\"",
        ),
        ("UseBase64: false", "UseBase64: true", "TelemetryRule: Sqs.UseBase64"),
        ("- Sqs:", "- Kinesis:", "TelemetryRule: action Kinesis is not supported"),
        ("timestamp() AS received_at", "timestamp() AS at", "TelemetryRule: Sql:"),
    ] {
        let message = error_message(from, to);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn rules_with_different_queues_are_rejected() {
    let second = TEMPLATE
        .split_once("  TelemetryRule:")
        .map(|(_, rule)| format!("{TEMPLATE}  ZRule:{rule}"))
        .unwrap()
        .rsplitn(2, "!GetAtt Stores.Outputs.IngestQueueUrl")
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect::<Vec<_>>()
        .join("http://127.0.0.1:4566/000000000000/other");
    let message = read(&second).unwrap_err().to_string();
    assert_eq!(
        message,
        "ZRule: sends to another queue than TelemetryRule; only one queue is supported"
    );
}

#[test]
fn only_rates_are_valid_schedules() {
    for (expression, seconds) in [
        ("rate(1 minute)", 60),
        ("rate(5 minutes)", 300),
        ("rate(2 hours)", 7_200),
        ("rate(1 day)", 86_400),
    ] {
        assert_eq!(parse_rate(expression).unwrap(), Duration::from_secs(seconds));
    }
    for expression in ["rate(0 minutes)", "rate(-1 minutes)", "rate(1)", "rate(1 week)", "1 minute"]
    {
        assert!(parse_rate(expression).is_err(), "{expression}");
    }
}

#[test]
fn template_of_the_project_is_supported() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml");
    let routing = read(&std::fs::read_to_string(path).unwrap()).unwrap();
    for filter in ["iot/+/telemetry", "iot/+/command/ack", "$aws/events/presence/+/+"] {
        assert!(routing.topic_filters.iter().any(|own| own == filter), "{filter}");
    }
    let [ingest] = routing.event_sources.as_slice() else {
        panic!("{:?}", routing.event_sources);
    };
    assert_eq!(ingest.function.name, "ingest");
    assert!(ingest.reports_item_failures);
    assert!(routing.schedules.iter().any(|schedule| schedule.function.name == "watchdog"));
}
