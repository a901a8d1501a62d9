"""Collects the licences of everything that is linked or embedded into the program.

`notices.py FOLDER_OF_THE_SOURCES` prints one text: each licence once, with the crates of `cargo tree` and the
npm packages of the dashboard that it is from. A crate that brings no licence file is named with what its
manifest says. Needs the sources that cargo and npm have fetched already; the network is not used.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

# Files that a package asks to be passed on.
PREFIXES = ("licen", "copying", "notice", "copyright", "unlicense")


def linked_crates(root: Path) -> list[tuple[str, str, Path]]:
    """Name and version, licence expression and folder of each crate in the program, without its tests."""
    tree = subprocess.run(
        [
            "cargo",
            "tree",
            "--locked",
            "--package",
            "camring",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    linked = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version", "1"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    return sorted(
        (
            f"{package['name']} {package['version']}",
            package["license"] or "",
            Path(package["manifest_path"]).parent,
        )
        for package in metadata["packages"]
        if package["source"] and (package["name"], f"v{package['version']}") in linked
    )


def embedded_packages(root: Path) -> list[tuple[str, str, Path]]:
    """The npm packages that the dashboard is made with, as its package.json names them, with theirs."""
    modules = root / "web/node_modules"
    wanted = list(json.loads((root / "web/package.json").read_text()).get("dependencies", {}))
    found: dict[str, tuple[str, str, Path]] = {}
    while wanted:
        name = wanted.pop()
        manifest = modules / name / "package.json"
        if name in found:
            continue
        package = json.loads(manifest.read_text())
        found[name] = (f"{name} {package['version']} (npm)", package.get("license", ""), manifest.parent)
        wanted += package.get("dependencies", {})
    return sorted(found.values())


def notices(packages: list[tuple[str, str, Path]]) -> str:
    """Each text once, under the names of those whose it is."""
    texts: dict[str, list[str]] = defaultdict(list)
    for name, expression, folder in packages:
        files = [
            path
            for path in sorted(folder.iterdir())
            if path.is_file() and path.name.lower().startswith(PREFIXES)
        ]
        for path in files:
            texts[path.read_text(errors="replace").strip()].append(f"{name} ({expression})")
        if not files:
            texts["(no licence file in the package)"].append(f"{name} ({expression})")
    parts = [
        "camring is linked with, or embeds, the software below. Each licence stands under those whose it is."
    ]
    for text, owners in sorted(texts.items(), key=lambda item: item[1]):
        parts.append("=" * 78 + "\n" + "\n".join(dict.fromkeys(owners)) + "\n\n" + text)
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.stdout.write(notices(linked_crates(folder) + embedded_packages(folder)))
