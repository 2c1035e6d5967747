#!/usr/bin/env python3
"""CPU per message of kumo-py beside other mail servers; `bench/README.md` says how and why."""

from __future__ import annotations

import sys

from mailbench.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
