"""The Timestream emulator without data, on a free port."""

import subprocess
from pathlib import Path

import boto3


class Timestream:
    def __init__(self, binary: Path, folder: Path):
        self._process = subprocess.Popen(
            [binary, "--port", "0", "--data", folder / "timestream"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"RUST_LOG": "off"},
        )
        # ready: http://127.0.0.1:PORT, data in …
        ready = self._process.stdout.readline()
        assert ready.startswith("ready: "), ready
        self.url = ready.split()[1].rstrip(",")

    def create_table(self, database: str, table: str) -> None:
        client = boto3.client(
            "timestream-write",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        client.create_database(DatabaseName=database)
        client.create_table(
            DatabaseName=database,
            TableName=table,
            MagneticStoreWriteProperties={"EnableMagneticStoreWrites": True},
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
