"""Runs `sam deploy` against an endpoint and adds the properties that MiniStack does not support."""

import os
import subprocess
from functools import cached_property
from pathlib import Path

import boto3
from samcli.yamlhelper import yaml_dump, yaml_parse

from .endpoint import CREDENTIALS, REGION, DeploymentFailed, Endpoint

STACK_NAME = "iot-meter"
SERVERLESS_FUNCTION = "AWS::Serverless::Function"


def build(checkout: Path, binaries: Path, folder: Path) -> Path:
    """Creates the output of `sam build`: the template and a folder for each function with its
    existing binary.

    `sam build` would compile all functions again for Amazon Linux. Debug information is removed,
    since MiniStack keeps archives in memory.
    """
    template = yaml_parse((checkout / "template.yaml").read_text())
    for name, resource in template["Resources"].items():
        properties = resource["Properties"]
        if resource["Type"] == SERVERLESS_FUNCTION:
            binary = binaries / resource["Metadata"]["BuildProperties"]["Binary"]
            (folder / name).mkdir(parents=True)
            bootstrap = folder / name / "bootstrap"
            if subprocess.run(["strip", "-o", bootstrap, binary], check=False).returncode != 0:
                raise DeploymentFailed(f"{binary} is missing: `cargo build --workspace --bins` builds it")
            properties["CodeUri"] = name
        elif resource["Type"] == "AWS::CloudFormation::Stack":
            properties["TemplateURL"] = str(checkout / properties["TemplateURL"])
    include = template["Resources"]["HttpApi"]["Properties"]["DefinitionBody"]["Fn::Transform"]["Parameters"]
    include["Location"] = str(checkout / include["Location"])
    built = folder / "template.yaml"
    built.write_text(yaml_dump(template))
    return built


class DeployedStack:
    """A deployed stack."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint

    def client(self, service: str):
        return boto3.client(
            service,
            endpoint_url=self.endpoint.url,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    @cached_property
    def outputs(self) -> dict[str, str]:
        stack = self.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    @cached_property
    def resources(self) -> dict[str, str]:
        """The physical ids of the resources by logical id."""
        found = self.client("cloudformation").describe_stack_resources(StackName=STACK_NAME)["StackResources"]
        return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}

    @property
    def api_url(self) -> str:
        return f"{self.endpoint.url}/_aws/execute-api/{self.resources['HttpApi']}/$default"


def deploy(endpoint: Endpoint, checkout: Path, built: Path, parameters: dict[str, str], log: Path) -> DeployedStack:
    """Deploys with the environment `dev` of samconfig.toml, with these parameters overridden."""
    overrides = {"Environment": "dev"} | parameters
    command = [checkout / ".venv/bin/sam", "deploy", "--template-file", built, "--stack-name", STACK_NAME]
    command += ["--config-file", checkout / "samconfig.toml", "--config-env", "dev", "--no-progressbar"]
    command += ["--parameter-overrides", *(f"{name}={value}" for name, value in overrides.items())]
    environment = os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint.url, "SAM_CLI_TELEMETRY": "0"}
    with log.open("w") as file:
        done = subprocess.run(command, env=environment, cwd=built.parent, stdout=file, stderr=file, check=False)
    if done.returncode != 0:
        raise DeploymentFailed(f"sam deploy failed:\n{_failure_reasons(DeployedStack(endpoint)) or log.read_text()}")
    deployed = DeployedStack(endpoint)
    _fix_concurrency_type(deployed)
    _create_routes(deployed)
    return deployed


def _failure_reasons(failed: DeployedStack) -> str:
    """The resources that could not be created, with their reasons, including those of nested
    stacks.
    """
    cloudformation = failed.client("cloudformation")
    found = []
    for stack in cloudformation.describe_stacks()["Stacks"]:
        for event in cloudformation.describe_stack_events(StackName=stack["StackId"])["StackEvents"]:
            if event["ResourceStatus"].endswith("_FAILED"):
                found.append(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}")
    return "\n".join(found)


def _fix_concurrency_type(deployed: DeployedStack) -> None:
    functions = deployed.client("lambda")
    for source in functions.list_event_source_mappings()["EventSourceMappings"]:
        limit = int(source.get("ScalingConfig", {}).get("MaximumConcurrency", 0))
        if limit:
            functions.update_event_source_mapping(UUID=source["UUID"], ScalingConfig={"MaximumConcurrency": limit})


def _create_routes(deployed: DeployedStack) -> None:
    """Creates routes, scopes and the authorizer from the processed template."""
    processed = deployed.client("cloudformation").get_template(StackName=STACK_NAME, TemplateStage="Processed")
    resources = processed["TemplateBody"]["Resources"]
    api = deployed.client("apigatewayv2")
    api_id = deployed.resources["HttpApi"]
    body = resources["HttpApi"]["Properties"]["Body"]
    lambdas = deployed.client("lambda")

    def integration(function: str) -> str:
        name = deployed.resources[f"{function.title()}Function"]
        arn = lambdas.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
        created = api.create_integration(
            ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="2.0"
        )
        return created["IntegrationId"]

    components = body["components"]
    integrations = {name: integration(name) for name in components["x-amazon-apigateway-integrations"]}
    scheme = components["securitySchemes"]["jwt"]["x-amazon-apigateway-authorizer"]
    authorizer = api.create_authorizer(
        ApiId=api_id,
        AuthorizerType=scheme["type"].upper(),
        Name="jwt",
        IdentitySource=[scheme["identitySource"]],
        JwtConfiguration={"Issuer": deployed.outputs["JwtIssuer"], "Audience": _audiences(deployed)},
    )["AuthorizerId"]
    for path, operations in body["paths"].items():
        for method, operation in operations.items():
            if not isinstance(operation, dict) or "x-amazon-apigateway-integration" not in operation:
                continue
            reference = operation["x-amazon-apigateway-integration"]["$ref"]
            # API Gateway ignores `security` at the root of the document.
            security = operation.get("security", [])
            authorization = {}
            if security:
                scopes = security[0]["jwt"]
                authorization = {"AuthorizationType": "JWT", "AuthorizerId": authorizer, "AuthorizationScopes": scopes}
            api.create_route(
                ApiId=api_id,
                RouteKey="$default" if path == "/$default" else f"{method.upper()} {path}",
                Target=f"integrations/{integrations[reference.rsplit('/', 1)[1]]}",
                **authorization,
            )


def _audiences(deployed: DeployedStack) -> list[str]:
    """The clients of the user pool, or the value of the parameter."""
    if "OperatorClientId" in deployed.outputs:
        return [deployed.outputs["ReaderClientId"], deployed.outputs["OperatorClientId"]]
    stack = deployed.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    values = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    return values["JwtAudience"].split(",")


