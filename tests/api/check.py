"""Asks a real server whatever its own description allows, and what it forbids, and checks each answer
against the description: `schemathesis`, with all of its checks.

    check.py CAMRING SCHEMATHESIS [ARGUMENTS OF SCHEMATHESIS…]

CAMRING is the daemon's binary; SCHEMATHESIS the program `st`. $CAMRING_API_EXAMPLES: how many requests
of each kind are made up for each operation. $CAMRING_API_TOKEN=1: there are
users, and it comes with a token. Ends with a line as unittest prints it, for ./test to count.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PATIENCE_S = 120.0
HERE = Path(__file__).resolve().parent

CONFIG = """
[site]
name = "test"
data_dir = "{folder}/data"
runtime_dir = "{folder}/run"

{users}
[[camera]]
name = "door"
url = "rtsp://127.0.0.1:9/door"
"""


def address(log: Path, server: subprocess.Popen[bytes]) -> str:
    """Where it listens, which it logs."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        text = log.read_text()
        if "listening on " in text:
            return text.split("listening on ", 1)[1].split()[0].rstrip("/")
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}:\n{text}")
        time.sleep(0.05)
    sys.exit(f"the server does not listen:\n{log.read_text()}")


def main() -> int:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    camring, st, *more = sys.argv[1:]
    examples = os.environ.get("CAMRING_API_EXAMPLES", "10")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="camring-api-") as folder:
        config, log = Path(folder, "config.toml"), Path(folder, "log")
        for name in ("data", "run"):
            Path(folder, name).mkdir()
        users, headers = "", []
        if os.environ.get("CAMRING_API_TOKEN"):
            made = subprocess.run(
                [camring, "token", "new", "--name", "check", "--role", "admin"],
                check=True,
                capture_output=True,
                text=True,
            )
            users = made.stdout
            token = next(line for line in users.splitlines() if line.startswith("# camring_"))[2:]
            headers = ["--header", f"Authorization: Bearer {token}"]
        config.write_text(CONFIG.format(folder=folder, users=users))
        with log.open("wb") as out:
            command = [camring, "serve", "--config", str(config), "--listen", "127.0.0.1:0"]
            server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "NO_COLOR": "1"},
            )
        try:
            url = address(log, server)
            with urllib.request.urlopen(f"{url}/api/openapi.json", timeout=PATIENCE_S) as answer:
                description = Path(folder, "openapi.json")
                description.write_bytes(answer.read())
            asked = subprocess.run(
                [
                    *(st, "--config-file", str(HERE / "schemathesis.toml"), "run", str(description)),
                    *headers,
                    *("--url", url, "--checks", "all", "--max-examples", examples),
                    *("--phases", "examples,coverage,fuzzing,stateful"),
                    # An answer without an end; tests/api/main.rs reads it.
                    *("--exclude-path", "/api/v1/events"),
                    *("--generation-database", "none", "--request-timeout", "60", "--no-color"),
                    *more,
                ],
                check=False,
                cwd=folder,
                env={**os.environ, "HOME": folder},
            )
            alive = server.poll() is None
            server.send_signal(signal.SIGTERM)
            ended = server.wait(PATIENCE_S)
        finally:
            server.kill()
            server.wait()
        problems = [line for line in log.read_text().splitlines() if "panicked" in line or " ERROR " in line]
    for line in problems:
        print(line)
    good = asked.returncode == 0 and alive and ended == 0 and not problems
    if not good:
        print(
            f"schemathesis ended with {asked.returncode}; the server {'lived' if alive else 'died'} and "
            f"ended with {ended}"
        )
    print(f"Ran 1 test in {time.monotonic() - start:.1f}s\n\n{'OK' if good else 'FAILED (failures=1)'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
