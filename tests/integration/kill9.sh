#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Usage: kill9.sh VSTORED KILL9 ROUNDS
VSTORED=$1 program=$(realpath "$2") rounds=$3
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl
make_store --log-size 32M
start_vstored
expect 201 POST /v1/volumes '{"name": "a", "size_bytes": 67108864}'
stop_vstored
"$program" "$VSTORED" store run "$rounds" "$RANDOM"
"$VSTORED" --check --store store --any-file-system
