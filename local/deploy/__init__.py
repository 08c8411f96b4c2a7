"""The whole template, deployed into a local endpoint.

`sam deploy` does it, from the template as it is. MiniStack then lacks two things, which this adds; everything else
(tables, queues, rules, schedules, roles, the native functions) is as the template made it:

- the routes of an HTTP API: it ignores the API's OpenAPI body. They are made from the processed template;
- the event source's limit of concurrency as a number: it keeps the text that a parameter is.

`python -m deploy` (`make deploy-local`) stays until Ctrl-C; tests/deployed uses the parts.
"""
