"""The table of a run: kinds of faults, how often, how long until blocks and votes came back.

python3 deploy/chaos/report.py DIR …          one table over several runs that were kept
"""

import collections
import json
import os
import sys


def spread(times):
    """p50 / p99 / max in seconds."""
    known = sorted(one for one in times if one is not None)
    if not known:
        return "–"
    at = lambda share: known[min(len(known) - 1, int(share * len(known)))]
    return f"{at(0.5):.2f} / {at(0.99):.2f} / {known[-1]:.2f}"


def share(parts):
    """Least and median in percent, of what was held long enough to tell."""
    known = sorted(one for one in parts if one is not None)
    return f"{100 * known[0]:.0f} / {100 * known[len(known) // 2]:.0f}" if known else "–"


def table(events):
    """Markdown: one row a kind."""
    kinds = collections.defaultdict(list)
    for event in events:
        kinds[event["kind"]].append(event)
    rows = [
        "| fault | times | first new block, s (p50 / p99 / max) | all vote again, s"
        " | longest without a receipt, s | careful users' meanwhile, % of offered (least / p50) | broken |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, list_ in [*kinds.items(), ("all", events)]:
        cells = [
            kind,
            str(len(list_)),
            spread(one.get("block") for one in list_),
            spread(one.get("voting") for one in list_),
        ]
        cells += [
            f"{max((one['gap'] for one in list_), default=0):.2f}",
            share(one.get("share") for one in list_),
            str(sum(len(one["violations"]) for one in list_)),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def verdict(about, counts, problems):
    """What was lost, in a few lines."""
    twins = counts["double signed by twins"]
    lines = [
        f"{about['seconds']:.0f} s, {len(about['events'])} faults, {about['sent']} transactions sent,"
        f" {counts['receipts']} receipts,"
        f" {counts['blocks']} blocks, {counts['votes']} votes and proposals from {counts['recorded']} recorded frames,"
        f" {counts['signatures']} signatures verified",
        f"lost or moved: {sum('LOST' in text for text in problems)};"
        f" two blocks at a height: {sum('TWO BLOCKS' in text for text in problems)};"
        f" double-signed: {counts['double signed']}"
        + (f" (and {twins} while two processes had one key)" if twins else "")
        + f"; not final at the end: {about['unfinished']}",
    ]
    broken = about["violations"] + problems
    lines += [f"BROKEN: {text}" for text in broken[:40]]
    lines.append(f"{len(broken)} promises broken" if broken else "every promise held")
    return "\n".join(lines), not broken


def main():
    events, seconds, receipts = [], 0, 0
    for folder in sys.argv[1:]:
        with open(os.path.join(folder, "run.json")) as file:
            about = json.load(file)
        events += about["events"]
        seconds += about["seconds"]
        receipts += about["answers"].get("receipt", 0)
    print(table(sorted(events, key=lambda one: one["kind"])))
    print(f"\n{len(sys.argv) - 1} runs, {seconds:.0f} s, {len(events)} faults, {receipts} receipts")


if __name__ == "__main__":
    main()
