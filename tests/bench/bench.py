#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs parts of the benchmark suite and writes what each measured to DIR/PART.json (./run bench)."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1] / "e2e")]

import parts
from measuring import Options


def machine() -> dict[str, str | int]:
    """What the figures are taken on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    libvirtd = subprocess.run(["libvirtd", "--version"], check=True, capture_output=True, text=True).stdout
    return {
        "processor": next(line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "libvirt": libvirtd.split()[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    parser.add_argument("--build-dir", required=True, type=pathlib.Path, help="the release build")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the JSON files")
    parser.add_argument("parts", nargs="+", choices=parts.ALL)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.parts:
        part = importlib.import_module(f"parts.{name}")
        print(f"\n== {part.TITLE}", flush=True)
        start = time.monotonic()
        results = part.measure(Options(arguments.quick, arguments.build_dir))
        results |= {"quick": arguments.quick, "seconds": round(time.monotonic() - start), "machine": machine()}
        (arguments.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
        for goal in results["goals"]:
            print(f"{'met    ' if goal['met'] else 'NOT MET'} {goal['what']}: {goal['figure']['median']:.4g}")


if __name__ == "__main__":
    main()
