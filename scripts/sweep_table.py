#!/usr/bin/env python3
"""The points of a sweep as a table of Markdown, printed or put into a document.

Usage: sweep_table.py RESULTS.json [--into DOCUMENT NAME]

With --into, what stands in DOCUMENT between the lines "<!-- sweep NAME -->" and "<!-- end of sweep
NAME -->" is replaced. Points come in the sweep's order; bold are those that no other beats in both the
first figure of quality and resident bytes.
"""
import argparse
import json
import pathlib
import sys

FORMAT = "rwkv-press-sweep"


def fail(message):
    """Prints one line on stderr and fails."""
    sys.exit(f"sweep_table.py: error: {message}")


def read_results(path):
    """Reads the results and checks that they are those of a sweep."""
    try:
        results = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"{path}: {error}")
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        fail(f"{path}: is not the results.json of a sweep")
    return results


def shown(metric, figure):
    """A figure with its standard error, as the report shows it."""
    value, error = figure["value"], figure.get("standard_error")
    is_share = "accuracy" in metric or "agreement" in metric
    scale, digits, unit = (100, 1, " %") if is_share else (1, 4, "")
    text = f"{value * scale:.{digits}f}{unit}"
    return text if error is None else f"{text} +- {error * scale:.{digits}f}"


def megabytes(point, key):
    """Bytes as MB, empty where they are not known."""
    return f"{point[key] / 1e6:.2f}" if point.get(key) is not None else ""


def text(name):
    """A name from outside without what a terminal or a table would take for more than text."""
    shown_as = {"|": "\\|", "<": "&lt;"}
    return "".join(shown_as.get(c, c) if c.isprintable() else f"\\x{ord(c):02x}" for c in name)


def unbeaten(points, metric):
    """Ids of the points on the frontier of resident bytes against the metric."""
    sign = -1 if metric["better"] == "higher" else 1
    known = [(point["resident_bytes"], sign * point["metrics"][metric["name"]]["value"], point["id"])
             for point in points
             if point.get("resident_bytes") and metric["name"] in point.get("metrics", {})]
    best, ids = float("inf"), set()
    for _, value, name in sorted(known):
        if value < best:
            best = value
            ids.add(name)
    return ids


def table(results):
    """The lines of the table."""
    metrics = results.get("metrics", [])
    points = [point for point in results["points"] if point["status"] == "done"]
    bold = unbeaten(points, metrics[0]) if metrics else set()
    names = {bar["point"]: bar["label"] for bar in results.get("ablation", [])}
    heads = ["recipe", *(metric["label"] for metric in metrics), "in memory, MB", "file, MB",
             "tokens/s"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    for point in points:
        label, bar = point["label"], names.get(point["id"])
        label = text(label if bar in (None, label) else f"{label} ({bar})")
        cells = [f"**{label}**" if point["id"] in bold else label]
        for metric in metrics:
            figure = point.get("metrics", {}).get(metric["name"])
            cells.append(shown(metric["name"], figure) if figure else "")
        speed = point.get("tokens_per_second")
        cells += [megabytes(point, "resident_bytes"), megabytes(point, "file_bytes"),
                  f"{speed:.0f}" if speed else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def put_into(document, name, lines):
    """Replaces the text between the marks of that name."""
    path = pathlib.Path(document)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{document}: {error}")
    begin, end = f"<!-- sweep {name} -->\n", f"<!-- end of sweep {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        fail(f"{document}: wants one line '{begin.strip()}' and one '{end}'")
    before, rest = text.split(begin)
    path.write_text(before + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1],
                    encoding="utf-8")


def main():
    """Reads the results, makes the table, prints it or puts it into the document."""
    parser = argparse.ArgumentParser(usage="sweep_table.py RESULTS.json [--into DOCUMENT NAME]")
    parser.add_argument("results")
    parser.add_argument("--into", nargs=2, metavar=("DOCUMENT", "NAME"))
    arguments = parser.parse_args()
    lines = table(read_results(arguments.results))
    if arguments.into:
        put_into(*arguments.into, lines)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
