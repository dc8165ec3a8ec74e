"""An application that never rests: commits in a loop, and keeps an invariant across tables that any torn copy breaks.

    writer.py make DATABASE JOURNAL_MODE MEGABYTES USER
    writer.py write DATABASE USER      (commands on standard input: vacuum, stop)

The invariant: `left` and `right` together hold 0, and `ledger` has one row for each commit that `state` counts. Each
commit moves an amount between rows far apart, one page a row. At the end, one line of JSON: commits, and the longest
that one commit had to wait.
"""

import json
import os
import random
import select
import sqlite3
import sys
import time

ROW_BYTES = 3000


def connect(path):
    return sqlite3.connect(path, timeout=120, isolation_level=None)


def make(path, journal_mode, megabytes):
    rows = int(megabytes) * 1_000_000 // (2 * ROW_BYTES) * 3 // 4
    connection = connect(path)
    connection.execute(f"pragma journal_mode = {journal_mode}")
    connection.execute("begin")
    for table in ("left", "right"):
        connection.execute(f'create table "{table}" (id integer primary key, amount integer, filler blob)')
        connection.execute(f'with recursive n(i) as (select 1 union all select i + 1 from n where i < ?) '
                           f'insert into "{table}" select i, 0, randomblob({ROW_BYTES}) from n', (rows,))
    connection.execute("create table ledger (id integer primary key, amount integer)")
    connection.execute("create table state (commits integer)")
    connection.execute("insert into state values (0)")
    connection.execute("commit")
    connection.close()


def commit(connection, rows):
    amount = random.randint(1, 1 << 40)
    connection.execute("begin immediate")
    for table, sign in (("left", 1), ("right", -1)):
        for _ in range(4):
            connection.execute(f'update "{table}" set amount = amount + ? where id = ?',
                               (sign * amount, random.randint(1, rows)))
    connection.execute("insert into ledger (amount) values (?)", (amount,))
    connection.execute("update state set commits = commits + 1")
    connection.execute("commit")


def write(path):
    connection = connect(path)
    rows = connection.execute('select max(id) from "left"').fetchone()[0]
    commits, longest = 0, 0.0
    print("writing", flush=True)
    while True:
        if select.select([sys.stdin], [], [], 0.002)[0]:
            command = sys.stdin.readline().strip()
            if command != "vacuum":
                break
            connection.execute("vacuum")
            print("vacuumed", flush=True)
        began = time.monotonic()
        commit(connection, rows)
        longest = max(longest, time.monotonic() - began)
        commits += 1
    connection.close()
    print(json.dumps({"commits": commits, "longest_wait_seconds": round(longest, 3)}), flush=True)


def main():
    part, path, *rest = sys.argv[1:]
    user = int(rest.pop())
    if os.geteuid() != user:
        os.setgid(user)
        os.setuid(user)
    make(path, *rest) if part == "make" else write(path)


main()
