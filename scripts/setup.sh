# Sourced by ./run and ./test: the Debian packages they need, and how they get them.
#
# Made for Debian 12. `set_up run` or `set_up test` returns when everything is there; when something is
# missing and cannot be installed, it says what, and how, and ends the script.
# shellcheck shell=bash

# To build: FFmpeg's headers, and libclang for the bindings made from them.
BUILD_PACKAGES=(
  build-essential ca-certificates clang libclang-dev pkg-config
  libavcodec-dev libavformat-dev libavutil-dev libswscale-dev
)
# The test cameras: clips are made with numpy and FFmpeg, and sent by GStreamer's RTSP server.
CAMERA_PACKAGES=(
  ffmpeg python3 python3-gi python3-numpy
  gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0 gir1.2-gstreamer-1.0
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good
)
# The dashboard: Node.js 18 or newer builds it. Only where there is none yet, from wherever it came.
WEB_PACKAGES=(nodejs npm)
# What ./test uses besides. Chromium: the dashboard is tested in a real browser. GStreamer's tools and parsers: it
# plays what is recorded. systemd: its tools check the unit, whether or not it runs here. curl and openssl: HTTPS as
# others speak it.
CHECK_PACKAGES=(
  chromium curl openssl python3-venv shellcheck systemd util-linux
  gstreamer1.0-plugins-bad gstreamer1.0-tools
)
# scripts/package.sh: what a binary depends on, and the tool that installs wheels.
PACKAGE_PACKAGES=(dpkg-dev python3-venv)
# ./test --package: a Debian of its own, booted in a container, in which the package is installed.
BOX_PACKAGES=(debian-archive-keyring lintian mmdebstrap systemd-container)

heading() {
  if [[ -t 1 ]]; then printf '\033[1m== %s\033[0m\n' "$*"; else printf '== %s\n' "$*"; fi
}

give_up() {
  printf '%s\n' "$@" >&2
  exit 1
}

# The packages of a list that dpkg does not know as installed.
missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
}

install_packages() {
  local missing as_root=() command
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  command="apt-get install -y --no-install-recommends ${missing[*]}"
  if ((EUID != 0)); then
    # Asks for a password only where somebody can type it.
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
      as_root=(sudo)
    else
      give_up "These Debian packages are missing, and only root can install them:" "" "    sudo $command" ""
    fi
  fi
  heading "installing ${#missing[@]} Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -q ||
    echo "apt-get update failed; trying with the package lists that are there" >&2
  # shellcheck disable=SC2086  # the words of the command are wanted
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $command ||
    give_up "" "The packages could not be installed. By hand:" "" "    sudo $command" ""
}

find_cargo() {
  command -v cargo >/dev/null && return 0
  if [[ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]]; then
    # shellcheck disable=SC1091  # written by rustup
    . "${CARGO_HOME:-$HOME/.cargo}/env"
  fi
  command -v cargo >/dev/null ||
    give_up "Rust is missing. Install it with rustup, then run this again:" "" \
      "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" "" \
      "rust-toolchain.toml names the version; rustup fetches it by itself."
}

node_is_there() {
  command -v npm >/dev/null && command -v node >/dev/null &&
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)'
}

# Builds web/dist, which the program embeds, unless it is newer than what it is made from.
build_dashboard() { # WEB FOLDER
  local web=$1
  if [[ -e $web/dist/index.html && -z $(find "$web" -path "$web/node_modules" -prune -o -path "$web/dist" -prune \
    -o -path "$web/tests" -prune -o -type f -newer "$web/dist/index.html" -print -quit) ]]; then
    return 0
  fi
  heading "building the dashboard"
  dashboard_packages "$web" && npm --prefix "$web" run --silent build
}

# The npm packages of package-lock.json, once per version of it. No package runs scripts of its own.
dashboard_packages() { # WEB FOLDER
  local web=$1
  cmp -s "$web/package-lock.json" "$web/node_modules/.package-lock.of-camring" && return 0
  (cd "$web" && npm ci --no-audit --no-fund --ignore-scripts --loglevel error) &&
    cp "$web/package-lock.json" "$web/node_modules/.package-lock.of-camring"
}

# What makes the Debian package, in the build folder; sets $cargo_deb.
cargo_deb() { # BUILD FOLDER
  local version=3.8.0
  cargo_deb=$1/cargo-deb/bin/cargo-deb
  [[ $("$cargo_deb" deb --version 2>/dev/null) == *"$version"* ]] && return 0
  heading "building cargo-deb $version (once)"
  CARGO_TARGET_DIR=$1/cargo-deb/build cargo install --quiet cargo-deb --locked --version "$version" --root "$1/cargo-deb" &&
    rm -rf "$1/cargo-deb/build"
}

# What the Python package is built and tested with, and what a wheel needs to be installed offline.
package_tools() { # BUILD FOLDER
  local venv=$1/python-package stamp
  stamp=$venv/$(sha256sum python/requirements-dev.txt | cut -c1-16)
  [[ -e $stamp ]] || {
    rm -rf "$venv" && /usr/bin/python3 -m venv "$venv" &&
      "$venv/bin/pip" install --quiet --requirement python/requirements-dev.txt &&
      "$venv/bin/pip" download --quiet --no-deps --dest "$venv/wheels" "$(grep ^numpy python/requirements-dev.txt)" &&
      touch "$stamp"
  }
}

set_up() { # run | test | build | package | box
  local packages=("${BUILD_PACKAGES[@]}")
  node_is_there || packages+=("${WEB_PACKAGES[@]}")
  [[ $1 == build || $1 == package ]] || packages+=("${CAMERA_PACKAGES[@]}")
  [[ $1 != test ]] || packages+=("${CHECK_PACKAGES[@]}")
  [[ $1 != package && $1 != box ]] || packages+=("${PACKAGE_PACKAGES[@]}")
  [[ $1 != box ]] || packages+=("${BOX_PACKAGES[@]}")
  if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    install_packages "${packages[@]}"
  else
    echo "This is no Debian: nothing is installed by itself. Needed are the equivalents of:" >&2
    printf '    %s\n' "${packages[*]}" >&2
  fi
  find_cargo
}
