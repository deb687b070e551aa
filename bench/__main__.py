"""`python -m bench SCENARIO [OPTIONS]`: each scenario is a module with `main(arguments) -> exit code`."""

import importlib
import sys

SCENARIOS = {
    "all": "every scenario that measures, one after the other, and a report",
    "report": "one page and plots out of kept results",
    "sockets": "memory per idle connection",
    "positions": "N sockets sending positions: server CPU per position",
    "offers": "jobs at a rate: commit to offer frame",
    "accepts": "many providers after few jobs: one winner each, and how fast",
    "tracking": "customers watching their providers: how old is what they see",
    "api": "HTTP reads at a rate, with Postgres behind",
    "candidates": "a search for the nearest providers, among 10,000 and 100,000",
    "markets": "the same load in one market and in several, on a Redis cluster",
    "scaling": "curves by size: sockets, workers, providers, markets",
    "tables": "accepts and lists beside a million jobs and more, and their plans",
    "storm": "thousands of phones return at once",
    "ledger": "what postings, completions with pay and reconcile cost",
    "peers": "the same work here and in Node ws, Socket.IO and Postgres alone",
    "office": "lists of an office with 100,000 providers, and their plans",
    "demo": "a recorded night of San Francisco's cabs, live",
    "simulate-faults": "the protocol core under seeded faults, in virtual time",
    "chaos": "real processes under a nemesis, judged by what clients were told",
    "storms": "phones that return at once or do not read, workers replaced under load",
    "hostile": "a million broken frames, and a bystander who must be served",
    "reliability": "write docs/reliability.md out of what the runs have left",
    "simulate": "matching policies over recorded trips on a virtual clock, and their evidence",
}


def main() -> int:
    """Hand over to the scenario; 2 when there is none of that name."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in SCENARIOS:
        return int(importlib.import_module(f"bench.{name.replace('-', '_')}").main(sys.argv[2:]))
    helping = name in ("-h", "--help")
    print("usage: python -m bench SCENARIO [OPTIONS]\n", file=sys.stdout if helping else sys.stderr)
    for scenario, what in SCENARIOS.items():
        print(f"  {scenario:15} {what}", file=sys.stdout if helping else sys.stderr)
    return 0 if helping else 2


if __name__ == "__main__":
    sys.exit(main())
