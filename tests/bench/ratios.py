#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our part of a plug and an unplug against the bare netlink messages: ratios of the medians in a
report of floor-bench (--benchmark_out)."""

import json
import sys


def main(report: str) -> None:
    with open(report, encoding="utf-8") as file:
        medians = {run["run_name"].removesuffix("/manual_time"): run
                   for run in json.load(file)["benchmarks"] if run.get("aggregate_name") == "median"}
    for name, ours in medians.items():
        if "/ours/" not in name:
            continue
        bare = medians[name.replace("/ours/", "/bare/")]
        what, _, ports = name.split("/")
        print(f"{what:6} at {ports:>4} ports: {ours['real_time']:6.1f} us, bare messages "
              f"{bare['real_time']:6.1f} us: {ours['real_time'] / bare['real_time']:.2f} times; "
              f"{ours['bytes_a_port']:.0f} bytes of memory a port")


if __name__ == "__main__":
    main(sys.argv[1])
