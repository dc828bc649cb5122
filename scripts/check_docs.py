#!/usr/bin/env python3
"""Checks that what the tree cites is there.

Links of Markdown files to files of this tree and to headings in them; and in every text, the numbers of
"rule N" and "defect N", which docs/rules.md has to give.

Usage: scripts/check_docs.py [root]. Prints every citation of nothing; exit status 1 when there is one.
"""

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
CITATION = re.compile(r"\b(rules?|defects?) (\d+)(?:((?:, \d+)*) and (\d+))?", re.IGNORECASE)
SUFFIXES = {".md", ".h", ".hpp", ".c", ".cpp", ".cu", ".cuh", ".py"}


def anchors(page: Path) -> set:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(root: Path, page: Path) -> list:
    """The links of a page that lead to nothing in this tree."""
    found = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            found.append(f"{page.relative_to(root)}: no such file: {link}")
        elif anchor and anchor not in anchors(target):
            found.append(f"{page.relative_to(root)}: no such heading: {link}")
    return found


def known_numbers(rules: Path) -> dict:
    """The numbers of the rules and of the defects that the specification gives."""
    text = rules.read_text(encoding="utf-8")
    return {
        "rule": set(re.findall(r"^### Rule (\d+)$", text, flags=re.MULTILINE)),
        "defect": set(re.findall(r"^(\d+)\. ", text.partition("## Defects")[2], flags=re.MULTILINE)),
    }


def unknown_numbers(root: Path, file: Path, known: dict) -> list:
    """The rules and defects that a file cites and the specification does not give."""
    found = []
    for kind, first, middle, last in CITATION.findall(file.read_text(encoding="utf-8")):
        kind = kind.lower().rstrip("s")
        for number in [first, *re.findall(r"\d+", middle), last]:
            if number and number not in known[kind]:
                found.append(f"{file.relative_to(root)}: {kind} {number} is not in docs/rules.md")
    return found


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent).resolve()
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout.split("\n")
    files = [root / name for name in listing if Path(name).suffix in SUFFIXES and (root / name).is_file()]
    known = known_numbers(root / "docs" / "rules.md")
    found = []
    for file in sorted(files):
        if file.suffix == ".md":
            found += dead_links(root, file)
        found += unknown_numbers(root, file, known)
    print("\n".join(found + [f"check_docs: {len(files)} files, {len(found)} citations of nothing"]))
    return 1 if found or not all(known.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
