#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manual page of vstorectl, from its own help, so that the two say the same. Usage: vstorectl.py VSTORECTL TEMPLATE >PAGE"""
import re
import subprocess
import sys
import textwrap

ctl, template = sys.argv[1:3]


def text(*args):
    return subprocess.run([ctl, *args, "--help"], capture_output=True, text=True, check=True).stdout


def escape(line):
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + line if line[:1] in (".", "'") else line


def body(lines):
    """Sentences begin new lines, as mdoc wants it."""
    joined = " ".join(line.strip() for line in lines if line.strip())
    sentences = re.sub(r"([.?!]) (?=[A-Z-])", r"\1\n", joined).split("\n")
    return [escape(line) for sentence in sentences for line in textwrap.wrap(sentence, 72, break_on_hyphens=False)]


everything = text()
options, verbs = [], []
for found in re.finditer(r"^  ((?:-\w, )?--[a-z-]+(?:=\.\.\.)?) +(.*)$", everything, re.M):
    options += [".It " + escape(found.group(1)), escape(found.group(2))]
for line in everything.split("\nOptions of all verbs:")[0].splitlines():
    words = re.match(r"  ([a-z-]+(?: [a-z][a-z-]*)*)(?: |$)", line)
    if not words:
        continue
    words = words.group(1).split()
    page = text(*words).split("\nOptions of all verbs:")[0]
    title, _, rest = page.partition("\n\n")
    description, _, example = rest.partition("\nExample:\n")
    verbs += [".It " + escape(title.removeprefix("vstorectl "))] + body(description.split("\n"))
    verbs += [".Pp", ".Dl " + escape(example.strip())]
with open(template, encoding="utf-8") as file:
    print(file.read().replace("@OPTIONS@", "\n".join(options)).replace("@VERBS@", "\n".join(verbs)), end="")
