"""Checks what readers stumble over: Markdown links to files and headings that do not exist, and committed secrets.

Standard library only; reads every file that git tracks or would track. Prints one line per fault, exits 1 if any.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SECRETS = {
    "age identity": re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]{20,}"),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{32,}"),
    "access token": re.compile(r"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|AKIA[A-Z0-9]{16})\b"),
    "password in an address": re.compile(r"https?://[^/\s:@]+:[^/\s@]+@"),
}
LARGEST_TEXT = 2 << 20


def tracked() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    return [ROOT / name for name in sorted(set(names)) if name and (ROOT / name).is_file()]


def anchors(markdown: str) -> set[str]:
    """Heading anchors as the common renderers make them: lower case, punctuation dropped, spaces to hyphens."""
    headings = re.findall(r"^#{1,6} +(.*)$", FENCE.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def bad_links(path: Path, markdown: str) -> list[str]:
    faults = []
    for link in LINK.findall(FENCE.sub("", markdown)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        if not target.exists():
            faults.append(f"link to {link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            faults.append(f"link to {link}: no such heading")
    return faults


def main() -> int:
    faults, pages = [], 0
    for path in tracked():
        if path.stat().st_size > LARGEST_TEXT:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = [f"looks like a committed secret: {name}" for name, pattern in SECRETS.items() if pattern.search(text)]
        if path.suffix == ".md":
            pages += 1
            found += bad_links(path, text)
        faults += [f"{path.relative_to(ROOT)}: {fault}" for fault in found]
    print("\n".join(faults) if faults else f"check_docs: {pages} pages, no bad link, no secret", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
