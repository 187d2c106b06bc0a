#!/usr/bin/env python3
"""How fast a node starts with a full log, and how fast a node without a log catches up.

    deploy/bench/catch_up.py [--rate 1000] [--seconds 90] [--size 512] [--binary target/release/fusion]

Fills a devnet's logs, stops it, deletes the log of node3, starts the other three at once, then node3. Small blocks:
`--rate 1000 --seconds 90`; large ones: `--rate 38000 --seconds 25`. Needs python3 and nothing else.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request


def status(home):
    with open(os.path.join(home, "config.toml")) as config:
        address = re.search(r'^\[rpc\][^\[]*?^listen = "([^"]+)"', config.read(), re.S | re.M).group(1)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "fusion_status", "params": []}).encode()
    request = urllib.request.Request(f"http://{address}/", body, {"content-type": "application/json"})
    try:
        return json.load(urllib.request.urlopen(request, timeout=1))["result"]
    except OSError:
        return None


def wait_until(holds, what, seconds=300):
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > seconds:
            sys.exit(f"after {seconds} s it does not hold that {what}")
        time.sleep(0.01)
    return time.monotonic() - begin


def start(binary, home):
    log = open(os.path.join(home, "restarted.log"), "a")
    return subprocess.Popen([binary, "start", "--home", home], stdin=subprocess.DEVNULL, stderr=log)


def fill(options, home):
    command = [options.binary, "devnet", "--l1", "none", "--home", home, "--json", "--base-port", str(options.base_port)]
    devnet = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    devnet.stdout.readline()
    bench = [options.binary, "bench", "--devnet", home, "--json", "--rate", str(options.rate)]
    bench += ["--duration", str(options.seconds), "--size", str(options.size)]
    load = json.loads(subprocess.run(bench, check=True, capture_output=True, text=True).stdout)
    devnet.terminate()
    devnet.wait()
    return load["total"]["final"] * load["workload"]["transactionBytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/fusion")
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--base-port", type=int, default=26000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fusion-catch-up-") as home:
        transaction_bytes = fill(options, home)
        homes = [os.path.join(home, f"node{index}") for index in range(4)]
        check = [options.binary, "db", "check", "--home", homes[0]]
        print(subprocess.run(check, check=True, capture_output=True, text=True).stdout.strip())
        for part in ("log", "wal", "index"):
            shutil.rmtree(os.path.join(homes[3], part))
        nodes = [start(options.binary, each) for each in homes[:3]]
        ready = wait_until(lambda: all((status(each) or {}).get("voting") for each in homes[:3]), "three nodes vote")
        height = status(homes[0])["height"]
        print(f"start: three nodes at once, {height} blocks, all vote after {ready:.2f} s")
        nodes.append(start(options.binary, homes[3]))
        took = wait_until(lambda: (status(homes[3]) or {}).get("height", 0) >= height, "node3 has caught up")
        print(f"catch-up: {height} blocks with {transaction_bytes / 1e6:.0f} MB of transactions in {took:.2f} s from its start: {height / took:.0f} blocks/s, {transaction_bytes / took / 1e6:.0f} MB/s")
        for node in nodes:
            node.terminate()
        codes = [node.wait() for node in nodes]
    sys.exit(f"exit codes {codes}" if any(codes) else 0)


if __name__ == "__main__":
    main()
