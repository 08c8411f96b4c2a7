"""Who the devices are: certificates, and what they allow.

`python -m provision add|rotate|revoke DEVICE` does it on AWS (thing, certificate, policy, registry), with `--local` for the
broker of `make run SECURE=1`, which has a CA of its own. What a device may do is said once, in
../devices/template.yaml; `policy` reads it from there.
"""
