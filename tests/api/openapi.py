#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The API's description and the handlers' table name the same methods, paths and keys. Usage: openapi.py YAML API.C"""
import re
import sys

yaml, source = (open(path, encoding="utf-8").read() for path in sys.argv[1:3])

source = re.sub(r'"\s*\n\s*"', "", source)
described, path, method, schemas = {}, None, None, {}
paths, components = yaml.split("\ncomponents:\n")
for line in paths.splitlines():
    if found := re.match(r"  (/\S*):$", line):
        path = re.sub(r"\{\w+\}", "{}", found.group(1))
    elif found := re.match(r"    (get|post|put|patch|delete):$", line):
        method = found.group(1).upper()
        described[method, path] = set()
    elif found := re.search(r"schemas/(\w+)", line):
        described[method, path] = found.group(1)
for name, properties in re.findall(r"\n    (\w+):\n(?:      .*\n)*?      properties: (\{.*\})", components):
    schemas[name] = set(re.findall(r"(\w+): \{type", properties)) - {"items"}

handled = {(m, p): set(re.sub(r"[#?\[\]]", "", keys).split())
           for m, p, keys in re.findall(r'\{"([A-Z]+)", "(/[^"]*)", \w+,\s*"([^"]*)"\}', source)}
wrong = [f"{m} {p} is only described" for m, p in described if (m, p) not in handled]
wrong += [f"{m} {p} is only handled" for m, p in handled if (m, p) not in described]
for key, keys in handled.items():
    want = described.get(key, set())
    want = schemas.get(want, set()) if isinstance(want, str) else want
    if keys != want:
        wrong.append(f"{key[0]} {key[1]}: handled keys {sorted(keys)}, described {sorted(want)}")
if len(handled) < 10:
    wrong.append("the table of handlers was not found")
print("\n".join(wrong))
sys.exit(1 if wrong else 0)
