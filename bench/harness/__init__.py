# SPDX-License-Identifier: Apache-2.0
"""vstored beside its peers on one machine. Start reading at ../run, then result.py, then a row."""
