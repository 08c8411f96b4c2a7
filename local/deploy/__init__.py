"""Deploys template.yaml to a local AWS endpoint with `sam deploy`.

The template is deployed unchanged: tables, queues, rules, schedules, roles and the native
functions. Two properties that MiniStack does not support are added after the deployment:

- the routes of the HTTP API, created from the processed template, since MiniStack ignores the
  OpenAPI body;
- the concurrency limit of the event source as a number, since MiniStack stores the text of the
  parameter.

`python -m deploy` (`make deploy-local`) runs until Ctrl-C; tests/deployed uses the modules.
"""
