"""Estimates the monthly cost of a fleet: `python infra/cost.py --devices 10000 --interval 10`.

The model counts the operations for each message as the code performs them (batches, one state write
per device and batch, one item per message) and multiplies them by list prices. Free tiers, data
transfer to clients and taxes are not included. `--table` prints the table of docs/cost.md.
"""

import argparse
import math
from dataclasses import dataclass

# List prices of us-east-1 in US dollars, from the price pages of AWS as of 2025
# (aws.amazon.com/<service>/pricing; DynamoDB since November 2024).
PRICES_AS_OF = "2025"
MILLION = 1e6
UNIT_PRICES = {
    "iot connection minute": 0.08 / MILLION,
    "iot message (5 KB)": 1.00 / MILLION,
    "iot rule": 0.15 / MILLION,
    "iot action": 0.15 / MILLION,
    "sqs request (64 KB)": 0.40 / MILLION,
    "lambda request": 0.20 / MILLION,
    "lambda GB-s arm64": 0.0000133334,
    "dynamodb write unit": 0.625 / MILLION,
    "dynamodb read unit": 0.125 / MILLION,
    "dynamodb GB": 0.25,
    "dynamodb recovery GB": 0.20,
    "s3 put": 0.005 / 1000,
    "s3 GB": 0.023,
    "http api request": 1.00 / MILLION,
    "logs GB": 0.50,
    "custom metric": 0.30,
    "alarm": 0.10,
    "xray trace": 5.00 / MILLION,
}

SECONDS_PER_MONTH = 30 * 24 * 3600
# An idle event source of Lambda polls with this many connections, each for up to 20 s.
QUEUE_POLLERS = 5
# Per batch: one line of metrics by the function and three lines by Lambda.
LOG_BYTES_PER_BATCH = 2_500
ALARM_COUNT = 19
METRIC_COUNT = 25
# Lambda samples the first invocation of each second and 5 % of the others.
TRACE_SAMPLING_RATE = 0.05


@dataclass(frozen=True)
class Fleet:
    """Devices that publish a message per interval, and requests to the REST API."""

    devices: int
    interval_s: float
    samples: int = 20
    metrics: int = 6
    message_bytes: int = 1_500
    item_kb: int = 1
    requests_per_day: int = 10_000
    retention_days: int = 365
    basic_ingest: bool = False
    # Assumptions, not measured on AWS: duration of an ingest batch, and of each message in it.
    batch_ms: float = 50.0
    batch_ms_per_message: float = 1.0
    memory_gb: float = 0.5

    @property
    def messages(self) -> float:
        return self.devices * SECONDS_PER_MONTH / self.interval_s

    @property
    def batches(self) -> float:
        """The greater of one batch per second and poller, and one per 500 messages."""
        rate = self.messages / SECONDS_PER_MONTH
        return SECONDS_PER_MONTH * max(min(rate, QUEUE_POLLERS), rate / 500)


def monthly_cost(fleet: Fleet) -> dict[str, float]:
    """Returns dollars per month by item. Storage is that of a fleet older than the retention."""
    messages, batches = fleet.messages, fleet.batches
    item_gb = messages / 30 * fleet.retention_days * fleet.item_kb / 1e6
    # Compression is assumed as ten to one. A batch within one hour of receipt is one object.
    archive_gb = messages / 30 * fleet.retention_days * fleet.message_bytes / 10 / 1e9
    hours = fleet.devices * 30 * 24
    rolled_up = hours * fleet.metrics
    requests = fleet.requests_per_day * 30
    message_units = math.ceil(fleet.message_bytes / 5_000)
    work_s = (batches * fleet.batch_ms + messages * fleet.batch_ms_per_message) / 1000
    prices = UNIT_PRICES
    return {
        "IoT Core, connections": fleet.devices * SECONDS_PER_MONTH / 60 * prices["iot connection minute"],
        "IoT Core, messages": 0 if fleet.basic_ingest else messages * message_units * prices["iot message (5 KB)"],
        "IoT Core, rules": messages * message_units * (prices["iot rule"] + prices["iot action"]),
        # Messages are sent singly, and received and deleted by ten at most. Idle pollers poll every
        # 20 s.
        "SQS": prices["sqs request (64 KB)"]
        * (messages + 2 * max(messages / 10, batches) + QUEUE_POLLERS * SECONDS_PER_MONTH / 20),
        "Lambda": (batches + SECONDS_PER_MONTH / 60 + requests) * prices["lambda request"]
        + (work_s * fleet.memory_gb + (SECONDS_PER_MONTH / 60 + requests) * 0.05 * 0.25)
        * prices["lambda GB-s arm64"],
        "DynamoDB, messages": messages * fleet.item_kb * prices["dynamodb write unit"],
        "DynamoDB, state": messages * (prices["dynamodb write unit"] + prices["dynamodb read unit"]),
        # Two items of two units for each metric and hour; the messages of the hour are read once.
        "DynamoDB, rollups": rolled_up * 4 * prices["dynamodb write unit"]
        + messages * fleet.item_kb / 4 * prices["dynamodb read unit"],
        "DynamoDB, watchdog": (SECONDS_PER_MONTH / 60 * 32 + hours * 60) * prices["dynamodb read unit"],
        "DynamoDB, requests": requests * 50 * prices["dynamodb read unit"],
        "DynamoDB, stored": item_gb * (prices["dynamodb GB"] + prices["dynamodb recovery GB"]),
        "S3, archive": batches * prices["s3 put"] + archive_gb * prices["s3 GB"],
        "API Gateway": requests * prices["http api request"],
        "CloudWatch and X-Ray": batches * LOG_BYTES_PER_BATCH / 1e9 * prices["logs GB"]
        + METRIC_COUNT * prices["custom metric"]
        + ALARM_COUNT * prices["alarm"]
        + batches * TRACE_SAMPLING_RATE * prices["xray trace"],
    }


TABLE_FLEETS = [(10, 10), (100, 10), (1_000, 10), (10_000, 10), (10_000, 60), (100_000, 60)]


def cost_table() -> str:
    """Returns the costs of `TABLE_FLEETS` as a Markdown table."""
    columns = [monthly_cost(Fleet(devices, interval)) for devices, interval in TABLE_FLEETS]
    heads = [f"{devices:,} × {interval} s" for devices, interval in TABLE_FLEETS]
    lines = ["| | " + " | ".join(heads) + " |", "|---" + "|---:" * len(heads) + "|"]
    lines.append("| messages a month (million) | " + " | ".join(_millions(Fleet(*row)) for row in TABLE_FLEETS) + " |")
    for name in columns[0]:
        lines.append(f"| {name} | " + " | ".join(_dollars(column[name]) for column in columns) + " |")
    lines.append("| **total** | " + " | ".join(f"**{_dollars(sum(c.values()))}**" for c in columns) + " |")
    return "\n".join(lines)


def _millions(fleet: Fleet) -> str:
    return f"{fleet.messages / MILLION:,.1f}"


def _dollars(amount: float) -> str:
    return f"{amount:,.2f}" if amount < 100 else f"{amount:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="the table of docs/cost.md")
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--interval", type=float, default=10, metavar="SECONDS", help="seconds between two messages of a device")
    parser.add_argument("--metrics", type=int, default=Fleet.metrics, help="metrics of a device")
    parser.add_argument("--message-bytes", type=int, default=Fleet.message_bytes)
    parser.add_argument("--retention-days", type=int, default=Fleet.retention_days, help="MessageTtlDays")
    parser.add_argument("--requests", type=int, default=Fleet.requests_per_day, help="requests to the REST API per day")
    parser.add_argument("--basic-ingest", action="store_true", help="devices publish to $aws/rules/…")
    arguments = parser.parse_args()
    if arguments.table:
        print(cost_table())
        return
    fleet = Fleet(
        arguments.devices,
        arguments.interval,
        metrics=arguments.metrics,
        message_bytes=arguments.message_bytes,
        item_kb=math.ceil(arguments.message_bytes / 1_500),
        retention_days=arguments.retention_days,
        requests_per_day=arguments.requests,
        basic_ingest=arguments.basic_ingest,
    )
    costs = monthly_cost(fleet)
    print(f"{_millions(fleet)} million messages per month; list prices of us-east-1 as of {PRICES_AS_OF}\n")
    for name, amount in costs.items():
        print(f"{name:<24}{_dollars(amount):>12} $")
    total = sum(costs.values())
    print(f"{'total':<24}{_dollars(total):>12} $   {total / fleet.messages * MILLION:.2f} $ per million messages")


if __name__ == "__main__":
    main()
