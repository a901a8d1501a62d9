#!/usr/bin/python3
"""Installs the Debian package in a Debian of its own, booted with systemd, and does there what a site does.

    box.py CAMRING.deb        as root; see ./test --package

mmdebstrap makes the box, which is kept in $CAMRING_CACHE together with what the package depends on;
systemd-nspawn boots a fresh copy in a temporary folder, with a network of its own that has a loopback
interface only. In there: install, permissions, a camera (the farm's, over that loopback) read with its
password from LoadCredential, frames for another user of the group and for nobody else, a recording, the
hardening and the sandbox as each process has them, reload, the network narrowed to the cameras, edits over
the API refused and allowed, the watchdog, upgrade with a changed configuration, remove, purge. What it
started is ended and the folder removed, however it ends.

Prints a line for each check; the last line is for ./test to count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")

PATIENCE_S = 300.0
ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,procps,util-linux,ca-certificates"
PASSWORD = "S3cret-of-the-gate"
EXPOSURE = 1.5
NSPAWN = ("--quiet", "--register=no", "--keep-unit", "--machine=camring-box")
# nspawn forbids what it does not know yet: Landlock; and bpf, with which systemd filters addresses.
SYSCALLS = "bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self"
ALONE = ("--private-network", "--console=pipe", "--link-journal=no", f"--system-call-filter={SYSCALLS}")
# Cameras have addresses of their own, on the loopback of the box: systemd cannot tell them apart otherwise.
ADDRESSES = {"gate": "192.0.2.10", "yard": "192.0.2.11"}
DROP_INS = "/etc/systemd/system/camring.service.d"
BARE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class Refused(AssertionError):
    """A command did not succeed."""


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """What a command says that must succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=env, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise Refused(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def wait_for(what: str, look: Callable[[], Found | None]) -> Found:
    """The first thing that is true, within a time that a busy machine needs."""
    end, last = time.monotonic() + PATIENCE_S, ""
    while time.monotonic() < end:
        try:
            found = look()
            if found:
                return found
        except (Refused, OSError, ValueError, KeyError) as error:
            last = str(error)
        time.sleep(0.2)
    raise AssertionError(f"in vain: {what}. {last}")


class Box:
    """A Debian in a folder, booted or not."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.init = 0
        self.nspawn: subprocess.Popen[bytes] | None = None

    def in_chroot(self, *command: str) -> str:
        """In a container without systemd as its init, as in a Docker build, with the machine's network."""
        return run(
            "systemd-nspawn", *NSPAWN, "--pipe", "-D", self.root, "/usr/bin/env", *settings(), *command
        )

    def boot(self, log: Path) -> None:
        with log.open("wb") as out:
            # It ends when this script does, even by SIGKILL.
            self.nspawn = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "TERM",
                    "systemd-nspawn",
                    "--boot",
                    *NSPAWN,
                    *ALONE,
                    "-D",
                    str(self.root),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # cgroup v2 in the box even where the machine has both: only there are addresses filtered.
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )

        def booted() -> bool:
            assert self.nspawn is not None and self.nspawn.poll() is None, (
                f"the box ended:\n{log.read_text()}"
            )
            self.init = next(pid for pid in [child_of(self.nspawn.pid)] if pid)
            state = subprocess.run(
                [*self.door(), "systemctl", "is-system-running"], capture_output=True, text=True, check=False
            )
            return state.stdout.strip() in ("running", "degraded")

        wait_for("the box boots", lambda: booted() if self.nspawn and child_of(self.nspawn.pid) else None)

    def door(self) -> list[str]:
        return ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-p", "-n", "/usr/bin/env", *settings()]

    def do(self, *command: str) -> str:
        """As root in the box; must succeed."""
        return run(*self.door(), *command)

    def as_user(self, user: str, *command: str) -> str:
        return self.do("runuser", "-u", user, "--", *command)

    def fails(self, *command: str) -> tuple[int, str]:
        """Exit code and words of what must not succeed."""
        done = subprocess.run(
            [*self.door(), *command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode, f"{command} succeeded:\n{done.stdout}{done.stderr}"
        return done.returncode, done.stdout + done.stderr

    def property(self, name: str) -> str:
        return self.do("systemctl", "show", "camring", "--property", name, "--value").strip()

    def write(self, path: str, text: str) -> None:
        """Keeps owner and mode of a file that is there."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def end(self) -> None:
        if self.nspawn is not None:
            self.nspawn.terminate()
            try:
                self.nspawn.wait(60)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()


def settings() -> list[str]:
    return ["-i", *(f"{name}={value}" for name, value in BARE.items())]


def child_of(pid: int) -> int:
    """The first child of a process, or 0. nspawn's is the init of the box."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(text[0]) if text else 0


def upgraded(deb: Path, folder: Path) -> Path:
    """The same package as a later version, whose config.toml as shipped is another."""
    tree = folder / "tree"
    run("dpkg-deb", "-R", deb, tree)
    control = tree / "DEBIAN/control"
    text, changed = re.subn(r"(?m)^Version: (.*)$", r"Version: \1+later", control.read_text())
    assert changed == 1
    control.write_text(text)
    config = tree / "etc/camring/config.toml"
    config.write_text(config.read_text() + "\n# A line of the later version.\n")
    config.chmod(0o640)
    run("dpkg-deb", "--root-owner-group", "-b", tree, folder / "later.deb")
    shutil.rmtree(tree)
    return folder / "later.deb"


def template(deb: Path) -> Path:
    """A box with what the package depends on in apt's cache, made once: later ones need no network."""
    depends = run("dpkg-deb", "-f", deb, "Depends")
    key = hashlib.sha256(f"{SUITE} {PACKAGES} {depends}".encode()).hexdigest()[:12]
    folder = Path(os.environ.get("CAMRING_CACHE") or Path.home() / ".cache/camring") / "box"
    kept = folder / f"{SUITE}-{key}.tar"
    if kept.exists():
        return kept
    say(f"making the box (once): {kept}")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{os.getpid()}.tar"
    fetch = (
        f'cp "{deb}" "$1/camring.deb" && chroot "$1" apt-get update -q && '
        'chroot "$1" apt-get install -y --no-install-recommends --download-only /camring.deb && '
        'rm "$1/camring.deb"'
    )
    try:
        run(*("mmdebstrap", "--variant=minbase", "--skip=cleanup/apt", f"--include={PACKAGES}"),
            f"--customize-hook={fetch}", SUITE, fresh)  # fmt: skip
        fresh.rename(kept)
    finally:
        fresh.unlink(missing_ok=True)
    return kept


@contextlib.contextmanager
def cameras(box: Box, log: Path) -> Iterator[dict[str, str]]:
    """Two cameras of the farm in the network of the box; this machine's files, the box's loopback."""
    network = ["nsenter", "-t", str(box.init), "-n"]
    for address in ADDRESSES.values():
        run(*network, "ip", "address", "add", f"{address}/32", "dev", "lo")
    gate = f"gate=h264-720p@5,user=camring,password={PASSWORD}"
    wanted = ["--host", "0.0.0.0", "--camera", gate, "--camera", "yard=h264-720p@5"]
    with log.open("wb") as out:
        farm = subprocess.Popen(
            [*network, "/usr/bin/python3", str(ROOT / "tests/farm/farm.py"), "--die-with-parent", *wanted],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        wait_for("the cameras", lambda: "READY" in log.read_text() or farm.poll() is not None)
        words = [line.split() for line in log.read_text().splitlines() if line.startswith("CAMERA ")]
        assert len(words) == 2, log.read_text()
        yield {word[1]: word[2].replace("0.0.0.0", ADDRESSES[word[1]]) for word in words}
    finally:
        farm.terminate()
        farm.wait()


checks = 0


def say(text: str) -> None:
    print(text, flush=True)


def check(condition: object, text: str, evidence: object = "") -> None:
    global checks  # noqa: PLW0603
    assert condition, f"NOT: {text}. {evidence}"
    checks += 1
    say(f"  ok: {text}")


def camera_block(name: str, url: str, more: str = "") -> str:
    return f'\n[[camera]]\nname = "{name}"\nurl = "{url}"\n{more}'


def status(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.as_user("detector", "camring", "status", "--json"))
    return found


def camera(box: Box, name: str) -> dict[str, Any]:
    """Its status."""
    found: dict[str, Any] = next(one for one in status(box)["cameras"] if one["name"] == name)
    return found


def streaming(box: Box, *names: str) -> dict[str, Any]:
    """The status once these cameras, and no others, send."""

    def look() -> dict[str, Any] | None:
        now = status(box)
        states = {camera["name"]: camera["state"] for camera in now["cameras"]}
        if states == dict.fromkeys(names, "streaming"):
            return now
        raise ValueError(f"{states}")

    return wait_for(f"{names} are streaming", look)


def modes(box: Box, *paths: str) -> list[str]:
    return box.do("stat", "--format", "%n %U:%G %a", *paths).splitlines()


def left(box: Box) -> list[str]:
    """Files named after camring, without what belongs to apt, dpkg, the journal, and this script."""
    skipped = (
        "/proc",
        "/sys",
        "/dev",
        "/var/cache/apt",
        "/var/log",
        "/root",
        "/tmp",
        "/run/systemd",
        "/run/log",
    )
    prune = [word for path in skipped for word in ("-path", path, "-o")][:-1]
    found = box.do("find", "/", "(", *prune, ")", "-prune", "-o", "-iname", "*camring*", "-print")
    return sorted(found.split())


def http(box: Box, method: str, path: str, body: object = None) -> tuple[int, str]:
    """Asks camring's HTTP server over the loopback of the box, with this machine's Python."""
    program = (
        "import json,sys,urllib.request as u,urllib.error as e\n"
        "a='http://127.0.0.1:8080'+sys.argv[2]\n"
        "q=u.Request(a,method=sys.argv[1],data=sys.argv[3].encode() or None,"
        "headers={'content-type':'application/json'})\n"
        "try: r=u.urlopen(q,timeout=60)\n"
        "except e.HTTPError as x: r=x\n"
        "print(json.dumps([r.status,r.read().decode()]))\n"
    )
    text = "" if body is None else json.dumps(body)
    command = ["nsenter", "-t", str(box.init), "-n", "/usr/bin/python3", "-c", program, method, path, text]
    code, answer = json.loads(run(*command))
    return code, answer


def without_init(box: Box) -> None:
    say("installed and purged where no systemd runs, as in the making of a container")
    said = box.in_chroot("apt-get", "install", "-y", "-q", "--no-install-recommends", "/root/camring.deb")
    check("not started: it has no camera yet" in said, "apt says what to do next", said)
    check((box.root / "usr/bin/camring").exists(), "the program is there")
    box.in_chroot("camring", "check")
    check(True, "the configuration as shipped passes camring check")
    # What it depends on stays, and is there when the box has no network.
    box.in_chroot("apt-get", "purge", "-y", "-q", "camring")
    check(not (box.root / "etc/camring").exists(), "purging leaves no /etc/camring")


def install(box: Box) -> None:
    say("installed")
    said = box.do("apt-get", "install", "-y", "-q", "--no-install-recommends", "/root/camring.deb")
    check("systemctl enable --now camring" in said, "apt says how to start it", said)
    check(box.fails("systemctl", "is-active", "camring")[1].strip() == "inactive", "not started")
    check(box.fails("systemctl", "is-enabled", "camring")[1].strip() == "disabled", "not enabled")
    wanted = ["/etc/camring root:camring 750", "/etc/camring/config.toml root:camring 640"]
    check(
        modes(box, "/etc/camring", "/etc/camring/config.toml") == wanted,
        "configuration: root's, for the group to read",
    )
    check(
        box.do("getent", "passwd", "camring").endswith("/usr/sbin/nologin\n"), "user camring, without a shell"
    )
    box.as_user("camring", "camring", "check")
    check(True, "camring check passes as user camring")
    box.do("useradd", "--groups", "camring", "detector")
    box.do("useradd", "stranger")
    check(
        box.fails("runuser", "-u", "stranger", "--", "cat", "/etc/camring/config.toml")[0],
        "no stranger reads the configuration",
    )
    for path in ("man1/camring-run.1.gz", "man5/camring.toml.5.gz"):
        check((box.root / "usr/share/man" / path).exists(), f"manual page {path}")


def start(box: Box, url: str) -> None:
    say("started")
    site = '[site]\nname = "box"\n\n[record]\nmode = "copy"\nmin_free = "64MiB"\n'
    # Whoever lacks anything of it does not begin; whoever needs what it forbids is killed.
    site += '\n[sandbox]\nenabled = "require"\non_violation = "kill"\n'
    config = site + camera_block("gate", url, 'username = "camring"\npassword = "${credential:gate}"\n')
    # By name: the resolver works in the unit, too.
    hosts = box.root / "etc/hosts"
    hosts.write_text((hosts.read_text() if hosts.exists() else "") + f"{ADDRESSES['gate']} gate.site\n")
    config = config.replace(ADDRESSES["gate"], "gate.site")
    box.write("/etc/camring/config.toml", config)
    box.write("/etc/camring/gate.password", PASSWORD + "\n")
    box.do("chmod", "600", "/etc/camring/gate.password")
    box.write(f"{DROP_INS}/credentials.conf", "[Service]\nLoadCredential=gate:/etc/camring/gate.password\n")
    log = "info,camring::sandbox=debug"
    box.write(f"{DROP_INS}/box.conf", f"[Service]\nWatchdogSec=10s\nEnvironment=CAMRING_LOG={log}\n")
    box.do("systemctl", "daemon-reload")
    check(
        "the credentials gate" in box.do("camring", "check"), "camring check goes on without the credential"
    )
    # As the guide says it.
    guide = "systemd-run --pipe --wait -p User=camring -p LoadCredential=gate:/etc/camring/gate.password"
    said = box.do(*guide.split(), "camring", "check")
    check("not looked at" not in said and "gate.site" in said, "systemd-run gives it the credential", said)
    box.do("systemctl", "enable", "--now", "camring")
    check(box.property("ActiveState") == "active", "systemctl start returns once it is ready (Type=notify)")
    now = streaming(box, "gate")
    check(True, "a camera streams, by its name, with its password from LoadCredential")
    check(wait_for("the memory of a reader", lambda: status(box)["cameras"][0]["memory_bytes"]),
          "its memory is known though /proc hides it")  # fmt: skip
    lines = box.as_user("detector", "camring", "tail", "gate", "-n", "5", "--json").splitlines()
    numbers = [json.loads(line)["sequence"] for line in lines if line.startswith("{")]
    check(
        len(numbers) == 5 and numbers == sorted(numbers), "another user of group camring reads frames", lines
    )
    code, said = box.fails("runuser", "-u", "stranger", "--", "camring", "tail", "gate", "-n", "1")
    check(code, "a user outside of the group does not", said)
    wait_for(
        "a recording",
        lambda: box.do("find", "/var/lib/camring/recordings", "-type", "f", "-size", "+100k").split(),
    )
    check(True, "it records below /var/lib/camring")
    code, said = http(box, "GET", "/api/v1/cameras")
    check(code == 200, "HTTP answers on the loopback", (code, said))
    journal = box.do("journalctl", "-u", "camring", "--no-pager")
    words = (
        box.do("ps", "-eo", "args")
        + box.do("systemctl", "show", "camring")
        + box.do("systemctl", "status", "camring")
    )
    check(
        PASSWORD not in journal + words + json.dumps(now), "the password is in no log, status or command line"
    )


def process(box: Box, pid: str) -> dict[str, str]:
    """What /proc says of a process."""
    lines = box.do("cat", f"/proc/{pid}/status").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def hardening(box: Box) -> None:
    say("hardened")
    pids = box.do("cat", f"/sys/fs/cgroup{box.property('ControlGroup')}/cgroup.procs").split()
    check(len(pids) >= 5, "supervisor, spawner, reader, recorder and server run in the unit's group", pids)
    main = box.property("MainPID")
    facts = {pid: process(box, pid) for pid in pids}
    for pid, fact in facts.items():
        name = fact["Name"]
        held = [fact[key].strip("0") for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
        good = (fact["NoNewPrivs"], fact["Seccomp"], held) == ("1", "2", [""] * 5)
        check(
            good and fact["Uid"].split()[0] != "0",
            f"{name}: not root, no capability, filtered system calls",
            fact,
        )
        check(modes(box, f"/proc/{pid}/fd") == [f"/proc/{pid}/fd root:root 500"], f"{name}: not dumpable")
    # The unit's own filters are those of the supervisor; each of the others has its kind's on top.
    unit = int(facts[main]["Seccomp_filters"])
    more = sorted((int(fact["Seccomp_filters"]) - unit, fact["Name"]) for fact in facts.values())
    own = [name for count, name in more if count == 3]
    check(len(own) == 3, f"filters of their own: {' '.join(own)}", more)
    journal = box.do("journalctl", "-u", "camring", "--no-pager")
    closed = re.findall(r"(\w+) sandboxed: system calls filtered, files closed off by Landlock \d+", journal)
    check({"reader", "recorder", "server"} <= set(closed), "and each is closed off by Landlock", journal)
    check("sandboxed in part" not in journal, "in whole")
    inside = ["nsenter", "-t", main, "-m", "--"]
    for path in ("/etc/x", "/usr/x", "/etc/camring/x", "/var/lib/x"):
        check("Read-only" in box.fails(*inside, "touch", path)[1], f"the service cannot write {path}")
    seen = box.do(*inside, "sh", "-c", "runuser -u camring -- ls /proc | grep -c '^[0-9]' || true")
    check(1 <= int(seen.split()[-1]) <= 3, "it sees no process of another user in /proc", seen)
    said = box.do("systemd-analyze", "security", "camring.service", "--no-pager")
    found = re.search(r"exposure level for camring.service: ([0-9.]+)", said)
    check(found and float(found[1]) <= EXPOSURE, f"exposure of the loaded unit: {found and found[1]}", said)


def reload(box: Box, urls: dict[str, str]) -> None:
    say("reloaded")
    path = box.root / "etc/camring/config.toml"
    good, before = path.read_text(), status(box)["cameras"][0]["pid"]
    yard = camera_block("yard", urls["yard"], 'transport = "udp"\n')
    path.write_text(good + yard)
    box.do("systemctl", "reload", "camring")
    now = streaming(box, "gate", "yard")
    check(now["cameras"][0]["pid"] == before, "a camera was added, the other one's reader is the same")
    path.write_text(good + "[[camera]]\nname = 7\n")
    check(box.fails("systemctl", "reload", "camring")[0], "a wrong configuration fails the reload")
    check(
        "config.toml:" in box.do("journalctl", "-u", "camring", "--no-pager"),
        "the journal says what is wrong, and where",
    )
    check(box.property("ActiveState") == "active", "and the service runs on")
    streaming(box, "gate", "yard")
    narrowed(box, good, good + yard)
    path.write_text(good)
    box.do("systemctl", "reload", "camring")
    streaming(box, "gate")
    check(True, "the camera is removed again")


def narrowed(box: Box, gate: str, both: str) -> None:
    say("narrowed to the site's cameras")
    path = box.root / "etc/camring/config.toml"
    path.write_text(both)
    yard = camera(box, "yard")
    check(yard["state"] == "streaming", "a camera streams over UDP", yard)

    def confine(config: str) -> None:
        path.write_text(config)
        box.write(f"{DROP_INS}/site.conf", box.do("camring", "check", "--systemd"))
        path.write_text(both)
        box.do("systemctl", "daemon-reload")
        box.do("systemctl", "restart", "camring")

    confine(gate)
    (box.root / DROP_INS.lstrip("/") / "credentials.conf").unlink()
    check("LoadCredential=gate:" in (box.root / f"{DROP_INS}/site.conf".lstrip("/")).read_text(),
          "camring check --systemd names the credentials")  # fmt: skip
    wait_for("the gate", lambda: camera(box, "gate")["state"] == "streaming")
    check(True, "a camera that the drop-in names streams")

    def refused() -> str | None:
        now = camera(box, "yard")
        return now["reason"] if now["state"] == "backoff" else None

    said = wait_for("the yard is out of reach", refused)
    check(True, f"one that it does not name cannot be reached: {said}")
    confine(both)
    streaming(box, "gate", "yard")
    check(True, "made anew, the drop-in lets both stream")
    wait_for("the server", lambda: http(box, "GET", "/api/v1/cameras")[0] == 200)
    check(True, "and HTTP answers")


def edits(box: Box, urls: dict[str, str]) -> None:
    say("edited over the API")
    new = {"name": "yard", "url": urls["yard"]}
    code, said = http(box, "POST", "/api/v1/cameras", new)
    check(
        code >= 400 and "ReadWritePaths" in said, "refused at first, and said how to allow it", (code, said)
    )
    box.do("install", "-D", "-m", "644", "/usr/share/doc/camring/examples/edit-cameras.conf",
           "/etc/systemd/system/camring.service.d/edit-cameras.conf")  # fmt: skip
    box.do("chown", "camring:camring", "/etc/camring", "/etc/camring/config.toml")
    box.do("systemctl", "daemon-reload")
    box.do("systemctl", "restart", "camring")
    streaming(box, "gate")
    wait_for("the server", lambda: http(box, "GET", "/api/v1/cameras")[0] == 200)
    code, said = http(box, "POST", "/api/v1/cameras", new)
    check(code == 201, "allowed with the drop-in that comes as an example", (code, said))
    streaming(box, "gate", "yard")
    check(
        modes(box, "/etc/camring/config.toml") == ["/etc/camring/config.toml camring:camring 640"],
        "owner and mode are kept",
    )
    box.do("systemd-tmpfiles", "--create")
    check(
        modes(box, "/etc/camring") == ["/etc/camring camring:camring 750"],
        "and stay so when the machine boots",
    )


def watchdog(box: Box) -> None:
    say("hung")
    main = box.property("MainPID")
    box.do("kill", "-STOP", main)
    wait_for(
        "a restart", lambda: int(box.property("NRestarts")) >= 1 and box.property("ActiveState") == "active"
    )
    check("Watchdog timeout" in box.do("journalctl", "-u", "camring", "--no-pager"), "the watchdog ended it")
    streaming(box, "gate", "yard")
    check(box.property("MainPID") != main, "and it runs again")


def upgrade(box: Box) -> None:
    say("upgraded")
    path = box.root / "etc/camring/config.toml"
    before, main = path.read_text(), box.property("MainPID")
    options = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    box.do("apt-get", "install", "-y", "-q", *options, "/root/later.deb")
    check(
        box.do("dpkg-query", "-W", "-f", "${Version}", "camring").endswith("+later"),
        "the later version is installed",
    )
    check(path.read_text() == before, "the site's configuration is as it was")
    check("A line of the later version" in path.with_name("config.toml.dpkg-dist").read_text(),
          "what is shipped now lies beside it")  # fmt: skip
    streaming(box, "gate", "yard")
    check(box.property("MainPID") != main, "the service was restarted")
    check(box.do("systemctl", "is-enabled", "camring").strip() == "enabled", "and is enabled still")


def removal(box: Box) -> None:
    say("removed and purged")
    began = time.monotonic()
    box.do("systemctl", "stop", "camring")
    say(f"  (stopped in {time.monotonic() - began:.1f} s)")
    check(box.property("Result") == "success", "it stops without being killed", box.property("Result"))
    check(not (box.do("ls", "/dev/shm").strip()), "no shared memory is left")
    check(box.fails("ls", "/run/camring")[0], "nor its runtime directory")
    box.do("systemctl", "start", "camring")
    box.do("apt-get", "remove", "-y", "-q", "camring")
    check(box.fails("pgrep", "-u", "camring")[0], "removing ends all processes")
    for path in ("etc/camring/config.toml", "var/lib/camring/recordings"):
        check((box.root / path).exists(), f"/{path} is kept")
    # What the administrator made is the administrator's to remove.
    shutil.rmtree(box.root / "etc/systemd/system/camring.service.d")
    (box.root / "etc/camring/gate.password").unlink()
    box.do("apt-get", "purge", "-y", "-q", "camring")
    check(left(box) == [], "purging leaves no file", left(box))
    check(box.do("getent", "group", "camring"), "user and group stay, so that nobody else gets their numbers")


def main() -> int:
    deb = Path(sys.argv[1]).resolve(strict=True)
    assert os.geteuid() == 0, "only root can boot a box"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    began = time.monotonic()
    kept = template(deb)
    folder = Path(tempfile.mkdtemp(prefix="camring-box."))
    box = Box(folder)
    try:
        run("tar", "-C", box.root, "-xf", kept)
        shutil.copy(deb, box.root / "root/camring.deb")
        shutil.copy(upgraded(deb, folder), box.root / "root/later.deb")
        without_init(box)
        box.boot(folder / "boot.log")
        say("booted: " + box.do("systemctl", "--version").splitlines()[0])
        install(box)
        with cameras(box, folder / "farm.log") as urls:
            try:
                start(box, urls["gate"])
                hardening(box)
                reload(box, urls)
                edits(box, urls)
                watchdog(box)
                upgrade(box)
                removal(box)
            except AssertionError:
                log = [*box.door(), "journalctl", "-u", "camring", "--no-pager", "-n", "60"]
                say(subprocess.run(log, capture_output=True, text=True, check=False).stdout)
                raise
    except AssertionError as error:
        say(f"{error}\n{checks} passed, 1 failed in {time.monotonic() - began:.1f}s")
        return 1
    finally:
        box.end()
        shutil.rmtree(folder, ignore_errors=True)
    say(f"{checks} passed in {time.monotonic() - began:.1f}s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
