"""Manages certificates of devices, and generates the access list of the local broker.

`python -m provision add|rotate|revoke DEVICE` works on AWS (thing, certificate, policy, registry) or,
with `--local`, with the certificate authority of `make run SECURE=1`. The permissions of a device are
defined in ../devices/template.yaml only; the module `policy` reads them from there.
"""
