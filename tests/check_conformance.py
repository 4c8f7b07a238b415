#!/usr/bin/env python3
"""Verifies doc/mqtt-conformance.md: each statement of either standard stands there once, and each named test exists.

usage: check_conformance.py [TREE]     without TREE: self test on tables with a mistake, then the source tree
"""

import collections
import os
import pathlib
import re
import sys
import tempfile

# How many statements each section has, from appendix B of the standards. 5.0 has no 2.2.1-1.
STATEMENTS = {
    "MQTT 3.1.1": {
        "1.5.3": 3, "2.2.2": 2, "2.3.1": 7, "3.1.0": 2, "3.1.2": 24, "3.1.3": 11, "3.1.4": 5, "3.2.0": 1, "3.2.2": 6,
        "3.3.1": 12, "3.3.2": 3, "3.3.4": 1, "3.3.5": 2, "3.6.1": 1, "3.8.1": 1, "3.8.3": 4, "3.8.4": 6, "3.9.3": 2,
        "3.10.1": 1, "3.10.3": 2, "3.10.4": 6, "3.12.4": 1, "3.14.1": 1, "3.14.4": 3, "4.1.0": 2, "4.3.1": 1, "4.3.2":
        2, "4.3.3": 2, "4.4.0": 1, "4.5.0": 2, "4.6.0": 6, "4.7.1": 3, "4.7.2": 1, "4.7.3": 4, "4.8.0": 2, "6.0.0": 4,
        "7.0.0": 2, "7.1.1": 2, "7.1.2": 2},
    "MQTT 5.0": {
        "1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1, "3.1.0": 2, "3.1.2": 30, "3.1.3": 12,
        "3.1.4": 6, "3.2.0": 2, "3.2.2": 22, "3.3.1": 13, "3.3.2": 20, "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1,
        "3.6.2": 3, "3.7.2": 3, "3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2,
        "3.10.4": 6, "3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4, "3.14.4": 3,
        "3.15.1": 1, "3.15.2": 3, "4.1.0": 2, "4.2.0": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2, "4.5.0": 2,
        "4.6.0": 6, "4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3, "4.12.0": 7, "4.12.1": 2,
        "4.13.1": 1, "4.13.2": 1, "6.0.0": 4}}
ABSENT = {("MQTT 5.0", "2.2.1-1")}


def expected(standard):
    return {f"{section}-{n}" for section, count in STATEMENTS[standard].items() for n in range(1, count + 1)
            if (standard, f"{section}-{n}") not in ABSENT}


def tests_of(tree):
    """File name -> the tests in it, as they are named there."""
    found = {}
    for path in sorted((tree / "tests/blackbox").glob("test_*.py")):
        found[path.name] = set(re.findall(r"^ *def (test_\w+)\(", path.read_text(), re.M))
    for path in sorted((tree / "tests/unit").glob("test_*.c")):
        found[path.name] = set(re.findall(r"^START_TEST\((\w+)\)", path.read_text(), re.M))
    return found


def check(tree):
    """What is wrong, as sentences; and how many statements are shown by a test, and how many are there."""
    wrong, seen, shown = [], collections.Counter(), 0
    tests, standard = tests_of(tree), None
    for number, line in enumerate((tree / "doc/mqtt-conformance.md").read_text().splitlines(), 1):
        where = f"doc/mqtt-conformance.md:{number}"
        if line.startswith("## "):
            standard = line[3:]
            if standard not in STATEMENTS:
                wrong.append(f"{where}: no standard that is known: {standard}")
        row = re.match(r"\| (\d[\d.]*-\d+) \|[^|]+\| ([^|]+) \|$", line)
        clients = re.match(r"Statements for clients alone: (.*)\.$", line)
        if row:
            seen[standard, row[1]] += 1
            named = re.findall(r"`([^`]+)`", row[2])
            for name in named:
                file, _, test = name.partition("::")
                if test not in tests.get(file, ()):
                    wrong.append(f"{where}: there is no {name}")
            is_shown = bool(named) and not row[2].startswith("no test: ")
            shown += is_shown
            if not is_shown and not re.match(r"no test: \w", row[2]):
                wrong.append(f"{where}: {row[1]} names no test, and no reason why there is none")
        elif clients:
            seen.update((standard, name) for name in clients[1].split(", "))
        elif line.startswith("|") and not re.match(r"\| statement \||\|-", line):
            wrong.append(f"{where}: not a row as the others are: {line[:60]}")
    for standard in STATEMENTS:
        here = {name for s, name in seen if s == standard}
        for name in sorted(expected(standard) - here):
            wrong.append(f"{standard}: {name} is missing")
        for name in sorted(here - expected(standard)):
            wrong.append(f"{standard}: there is no {name}")
    wrong += [f"{s}: {name} stands there {n} times" for (s, name), n in seen.items() if n > 1]
    return wrong, shown, sum(seen.values())


def self_test(source):
    """Changes the true table in one place each; that must be noticed."""
    table = (source / "doc/mqtt-conformance.md").read_text()
    row = re.search(r"^\| 3\.12\.4-1 \|.*\n", table, re.M)[0]
    cases = {
        "a missing statement": (row, "", "3.12.4-1 is missing"),
        "one that stands there twice": (row, row + row, "3.12.4-1 stands there 2 times"),
        "one that does not exist": (row, row + row.replace("3.12.4-1", "3.12.4-9"), "there is no 3.12.4-9"),
        "a test that does not exist": ("::pings_keep_a_client_for_ever`", "::pings`", "there is no test_sessions.c::pings"),
        "a file that does not exist": ("`test_sessions.c::", "`test_session.c::", "there is no test_session.c::"),
        "a row without a test": (row, re.sub(r"\| [^|]* \|\n$", "| nothing |\n", row), "3.12.4-1 names no test"),
        "a row of another form": (row, row[:-2] + "\n", "not a row as the others are")}
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        (tree / "doc").mkdir()
        (tree / "tests").symlink_to((source / "tests").absolute())
        for what, (old, new, message) in cases.items():
            (tree / "doc/mqtt-conformance.md").write_text(table.replace(old, new, 1))
            if not any(message in sentence for sentence in check(tree)[0]):
                sys.exit(f"self test: {what} was not noticed")
    print(f"self test: {len(cases)} mistakes noticed")


def main():
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("srcdir", pathlib.Path(__file__).parent.parent))
    wrong, shown, count = check(source)
    print("\n".join(wrong + [f"{count} statements, {shown} shown by a test, {len(wrong)} mistakes"]))
    if len(sys.argv) < 2 and not wrong:
        self_test(source)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
