#!/usr/bin/env python3
"""What a hub in Azure Storage costs: counted transactions times list prices.

Without arguments it prints the tables of docs/guide/azure.md. It reads no network: prices and counts are arguments
or the defaults below, and both change. Python 3, standard library only.

  azure-cost.py
  azure-cost.py --price queue=0.0044 --price table=0.0004
  azure-cost.py --load "chain of 5" table=7 queue=3 --load "with pictures" table=9 queue=3 blob_put=2 blob_get=1
  azure-cost.py --bench lines.json          # JSON lines of durable-benches, with their field `transactions`
"""

import argparse
import json
import sys

# USD for 10 000 transactions: general-purpose v2, standard, LRS, hot, West Europe. See "Cost" in azure.md for where
# they come from. `delete` of a blob is free.
PRICES = {
    "table": 0.00036,
    "queue": 0.004,
    "blob_put": 0.054,
    "blob_get": 0.0043,
    "blob_list": 0.054,
    "blob_delete": 0.0,
    "create": 0.054,
    "delete": 0.004,
}

# USD for one GB of rows and month.
ROW_GB_MONTH = 0.045

HOURS_OF_A_MONTH = 730

# Transactions of one workflow, as the tests of durable-azure count them. `any` has no kinds: priced as if all were
# table operations, and as if all were queue operations.
LOADS = [
    ("chain of 5, alone, started by another process", "", {"table": 7, "queue": 3}),
    ("chain of 5, alone, started by its owner's process", "", {"table": 6}),
    ("chains of 5, 200 in flight, 4 partitions", "about", {"table": 0.26}),
    ("fan-out of 100, instant activities", "", {"table": 2}),
    ("fan-out of 100, activities of 0 to 1 s", "about", {"table": 11}),
    ("Durable Functions: chain of 5", "", {"any": 54}),
    ("Durable Functions: chains of 5, 200 in flight", "about", {"any": 45}),
    ("Durable Functions: fan-out of 100, least", "", {"any": 518}),
    ("Durable Functions: fan-out of 100, most", "", {"any": 910}),
]

# Transactions of an hour without work.
IDLE = [
    ("one worker, 4 partitions", "about", {"table": 410, "queue": 448}),
    ("Durable Functions, least", "", {"any": 2544}),
    ("Durable Functions, most", "", {"any": 13344}),
]


def price_of(kind, prices):
    """USD for one transaction of a kind, as the metric `durable_storage_transactions_total` names it."""
    for name in (kind, kind.split("_")[0]):
        if name in prices:
            return prices[name] / 10_000
    sys.exit(f"no price for {kind!r}; known are {', '.join(prices)}")


def cost(counts, prices):
    """The least and the most that these transactions cost. Equal where all kinds are known."""
    least = most = 0.0
    for kind, count in counts.items():
        ends = ("table", "queue") if kind == "any" else (kind, kind)
        one = sorted(price_of(end, prices) for end in ends)
        least += count * one[0]
        most += count * one[1]
    return least, most


def dollars(least, most):
    return f"{most:,.2f}" if f"{least:.2f}" == f"{most:.2f}" else f"{least:,.2f} to {most:,.2f}"


def number(value):
    return f"{value:,.2f}".rstrip("0").rstrip(".").replace(",", " ")


def table(title, unit, rows, times, prices):
    print(f"| {title} | transactions {unit[0]} | USD {unit[1]} |")
    print("| --- | --- | --- |")
    for name, bound, counts in rows:
        total = number(sum(counts.values()))
        least, most = cost(counts, prices)
        print(f"| {name} | {f'{bound} {total}'.strip()} | {dollars(least * times, most * times)} |")


def row_bytes(row_key, properties):
    """Size of a row by the formula of the service: keys and text count two bytes for each character."""
    size = 4 + 2 * (len("p00") + row_key)
    for name, value in properties.items():
        size += 8 + 2 * len(name)
        size += {"int": 8, "bool": 1}[value] if isinstance(value, str) else 4 + 2 * value
    return size


def stored_bytes(history_rows, payload, id_chars):
    """Rows that a finished workflow leaves: status, place in the list, history. Text counts two bytes a character."""
    status = row_bytes(2 + id_chars, {
        "id": id_chars, "run": "int", "execution": "int", "name": 12, "status": 9, "created_at": "int",
        "updated_at": "int", "created_time": 27, "updated_time": 27, "created": "int", "due": 0, "waiting": "int",
        "uncounted": "bool", "nonce": 36, "nonce_run": "int", "body": 260 + id_chars + 2 * payload, "body2": 0,
        "blob": 0,
    })
    listed = row_bytes(23 + id_chars, {"id": id_chars, "created": "int"})
    # A result and the next call: two events.
    history = row_bytes(56 + id_chars, {
        "id": id_chars, "first": "int", "count": "int", "at": 27, "body": 210 + 2 * payload, "body2": 0, "blob": 0,
    })
    return 2 + history_rows, status + listed + history_rows * history


def counts_of(words):
    counts = {}
    for word in words:
        kind, found, count = word.partition("=")
        if not found:
            sys.exit(f"{word!r} is not of the form KIND=COUNT")
        counts[kind] = counts.get(kind, 0) + float(count)
    return counts


def bench_loads(path):
    loads = []
    with open(path, encoding="utf-8") as lines:
        for line in filter(str.strip, lines):
            run = json.loads(line)
            if run.get("transactions") and run.get("instances"):
                counts = {kind: n / run["instances"] for kind, n in run["transactions"].items()}
                loads.append((run["workload"], "", counts))
    return loads or sys.exit(f"{path} has no line with `transactions`")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", action="append", default=[], metavar="KIND=USD",
                        help="USD for 10 000 transactions of a kind: " + ", ".join(PRICES))
    parser.add_argument("--load", action="append", nargs="+", metavar=("NAME", "KIND=COUNT"),
                        help="a load of your own: transactions of one workflow by kind")
    parser.add_argument("--bench", metavar="FILE", help="loads from JSON lines of durable-benches")
    parser.add_argument("--workflows", type=float, default=1_000_000, help="how many (default: a million)")
    parser.add_argument("--idle", nargs="+", metavar="KIND=COUNT", help="transactions of an idle hour by kind")
    parser.add_argument("--row-gb-month", type=float, default=ROW_GB_MONTH, metavar="USD",
                        help="price of a GB of rows for a month")
    parser.add_argument("--history-rows", type=int, default=6, help="commits of a workflow (chain of n: n + 1)")
    parser.add_argument("--payload", type=int, default=20, help="characters of an input or output, as JSON")
    parser.add_argument("--id-chars", type=int, default=36, help="characters of an instance id")
    arguments = parser.parse_args()

    prices = PRICES | counts_of(arguments.price)
    loads = [(load[0], "", counts_of(load[1:])) for load in arguments.load or []]
    if arguments.bench:
        loads += bench_loads(arguments.bench)
    unit = ("each", f"for {number(arguments.workflows)} workflows")
    table("load", unit, loads or LOADS, arguments.workflows, prices)
    print()
    idle = [("idle", "", counts_of(arguments.idle))] if arguments.idle else IDLE
    table("idle", ("an hour", "a month"), idle, HOURS_OF_A_MONTH, prices)
    print()
    rows, size = stored_bytes(arguments.history_rows, arguments.payload, arguments.id_chars)
    gigabytes = size * arguments.workflows / 2**30
    month = gigabytes * arguments.row_gb_month
    print(f"Stored for each finished workflow: {rows} rows, about {size / 1000:.1f} kB. "
          f"{number(arguments.workflows)} of them: {gigabytes:.1f} GB, {month:,.2f} USD a month.")


if __name__ == "__main__":
    main()
