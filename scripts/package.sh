#!/bin/bash
# Builds what is installed on a box: a Debian package of camring, and the wheel of its Python package.
# See scripts/package.sh --help.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# shellcheck source=scripts/setup.sh
. scripts/setup.sh

usage() {
  cat <<'END'
usage: scripts/package.sh [--no-wheel] [--debug]

Builds the dashboard, the program (release), its man pages and shell completions, a Debian package of them, and the
Python wheel. They are in FOLDER/package; FOLDER is $CARGO_TARGET_DIR, or target. Install them with:

    sudo apt install ./target/package/camring_*.deb
    pip install target/package/camring-*.whl

  --no-wheel   the Debian package only
  --debug      with the unoptimised program that the tests build: to try the package, not for a box
END
}

wheel=yes profile=release built=release packed=release compress=()
while (($#)); do
  case $1 in
    -h | --help) usage && exit ;;
    --no-wheel) wheel='' ;;
    --debug) profile=dev built=debug packed=unoptimised compress=(--fast) ;;
    *) give_up "unknown argument $1; see scripts/package.sh --help" ;;
  esac
  shift
done

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
export CARGO_TARGET_DIR=$target
# The same sources give the same package: files are as old as the last commit.
# (Not for cargo itself, which would compile what is written in C once more for it.)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

set_up package
cargo_deb "$target"
dashboard_packages web
build_dashboard web

heading "building camring ($profile)"
# In one go, and of the whole workspace: with the features that ./test has it with, and nothing is built twice.
cargo build --profile "$profile" --locked --workspace --exclude camring-python --bin camring --example manual

heading "man pages, completions, licences"
made=$target/$packed/package
rm -rf "$made"
mkdir -p "$made/doc"
# cargo-deb makes packages of releases, not of the dev profile: it finds that program as another profile's.
[[ $packed == "$built" ]] || ln -f "$target/$built/camring" "$target/$packed/camring"
"$target/$built/examples/manual" man "$made/man" >/dev/null
gzip -9n "$made/man"/*
"$target/$built/examples/manual" completions "$made/completions" >/dev/null
python3 scripts/notices.py . | gzip -9n >"$made/doc/third-party.txt.gz"
gzip -9n <CHANGELOG.md >"$made/doc/CHANGELOG.md.gz"
version=$(cargo metadata --locked --no-deps --format-version 1 |
  python3 -c 'import json, sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "camring"))')
# What Debian's tools read; people read CHANGELOG.md.
printf 'camring (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.gz beside this file.\n\n -- The camring authors <root@localhost>  %s\n' \
  "$version" "$(LC_ALL=C date -u -R -d "@$epoch")" | gzip -9n >"$made/doc/changelog.gz"

heading "the Debian package"
mkdir -p "$target/package"
rm -f "$target/package"/camring_*.deb
# shellcheck disable=SC2154  # cargo_deb sets it
SOURCE_DATE_EPOCH=$epoch "$cargo_deb" deb --no-build --profile "$packed" --locked --package camring --strip "${compress[@]}" --output "$target/package/"

if [[ -n $wheel ]]; then
  heading "the Python wheel"
  rm -f "$target/package"/camring-*.whl
  package_tools "$target"
  "$target/python-package/bin/maturin" build --release --locked --quiet --manifest-path python/Cargo.toml \
    --interpreter /usr/bin/python3 --out "$target/package"
fi
heading "made"
ls -l "$target/package"
