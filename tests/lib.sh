# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# How a test ends that cannot go on. Source it.

fail() {
	echo "FAILED: $*"
	exit 1
}

# requires TOOL...: a missing one is a skip, with its reason
requires() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || { echo "$tool is not installed"; exit 77; }
	done
}
