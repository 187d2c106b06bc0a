"""The plan: seed → a list of faults with time, target and all chances, drawn before the run and printed, so that it can
be replayed.

What follows from the cluster (who leads, which file is at a place of the list) is found when a fault begins; what was
found is in its notes.
"""

import glob
import random
import shutil

import cables
import disks
import files
import networks
import processes

KINDS = {kind.kind: kind for module in (processes, networks, cables, disks, files) for kind in module.KINDS}
# Kinds of weather that may last while another fault happens.
WEATHER = ("loss-1", "delay")
# Seconds from one fault's end to the next one's plan, mixed and with chosen kinds alone.
APART, APART_ALONE = (3.0, 7.0), (1.0, 2.5)


def missing(why_no_images, why_no_wires):
    """What this machine lacks: need → reason."""
    lacks = {}
    if why_no_images:
        lacks["images"] = why_no_images
    if why_no_wires:
        lacks["wires"] = why_no_wires
    if not shutil.which("strace"):
        lacks["strace"] = "no strace"
    if not glob.glob(files.LIBRARIES):
        lacks["faketime"] = "no libfaketime"
    return lacks


def usable(lacks):
    """Kinds that can run here, and those that cannot with the reason."""
    good, skipped = [], {}
    for name, kind in KINDS.items():
        reasons = [lacks[need] for need in kind.needs if need in lacks]
        if reasons:
            skipped[name] = ", ".join(reasons)
        else:
            good.append(name)
    return good, skipped


def draw(seed, seconds, nodes, kinds, times=None, is_mixed=True, hold=None):
    """Faults for `seconds`, or `times` of them, each held for `hold` seconds if that is said. Each kind comes once, in
    random order, before any comes by weight. A mixed plan puts some of them under bad weather."""
    choice, plan, at = random.Random(f"fusion chaos {seed}"), [], 2.0
    first = list(kinds)
    choice.shuffle(first)
    weights = [KINDS[name].weight for name in kinds]
    while (len(plan) < times) if times else (at < seconds):
        name = first.pop() if first else choice.choices(kinds, weights)[0]
        kind = KINDS[name]
        entry = {
            "at": round(at, 1),
            "kind": name,
            "target": choice.randrange(nodes),
            "hold": hold if hold and any(kind.hold) else round(choice.uniform(*kind.hold), 1),
        }
        entry.update(kind.choose(choice, nodes))
        if is_mixed and not issubclass(kind, networks.Weather) and choice.random() < 0.25:
            entry["under"] = choice.choice(WEATHER)
        plan.append(entry)
        at += entry["hold"] + choice.uniform(*(APART if is_mixed else APART_ALONE))
    return plan


def line(entry):
    """One fault in words."""
    rest = {key: value for key, value in entry.items() if key not in ("at", "kind", "target", "hold")}
    words = " ".join(f"{key}={value}" for key, value in rest.items())
    what = f"{entry['kind']:<14} node{entry['target']}  held {entry['hold']:4.1f} s"
    return f"{entry['at']:7.1f} s  {what}  {words}".rstrip()
