# SPDX-License-Identifier: Apache-2.0
"""Taking a delta, beside Netflix Hollow: 1 % of the rows change, the consumer reads the delta from memory (hollow/Apply.java, contestant_apply.c).

Ours can be read by key afterwards, and its digest was compared; Hollow can be read by key with its primary key index, which is what ours is held
against. Without the index it can only be walked, and read by its own numbers of records: shown too. The jar is fetched once by Maven, at the version and checksum below. Nothing is run where there is no Java, no compiler of it, or no jar.
"""
import hashlib
import os
import shutil
import subprocess

import contest

VERSION = "7.14.23"
SHA256 = "80913899ba062992dcda2cb17da67c2c3799c045e161c33b9605f8aa0ba9b9f2"
OPTIONS = contest.options()
KEYS, SIZE = {"smoke": (2000, "2k")}.get(OPTIONS.size, (1000000, "1M"))
WARMUP = {"smoke": 3, "quick": 6, "full": 30}[OPTIONS.size]
KINDS = {"ids": "8-byte ids"} if OPTIONS.size != "full" else {"ids": "8-byte ids", "names": "real names"}


def fits(jar):
    return jar.exists() and hashlib.sha256(jar.read_bytes()).hexdigest() == SHA256


def fetch(folder):
    """Hollow's jar, or the reason why there is none."""
    jar = folder / f"hollow-{VERSION}.jar"
    if fits(jar):
        return jar, None
    if OPTIONS.size == "smoke":
        return None, "not fetched yet"
    if not shutil.which("mvn"):
        return None, "no mvn in the path"
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact=com.netflix.hollow:hollow:{VERSION}", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return None, "Maven takes longer than two minutes"
    if done.returncode:
        return None, next((line for line in done.stdout.splitlines() if "ERROR" in line), "Maven failed")
    return (jar, None) if fits(jar) else (None, "the jar is not the one that is expected")


def hollow():
    """The command without its arguments, or None."""
    if not shutil.which("java") or not shutil.which("javac"):
        contest.not_run("Hollow", "no java and javac in the path")
        return None
    jar, why = fetch(contest.CACHE / f"bench-hollow-{VERSION}")
    if not jar:
        contest.not_run("Hollow", why)
        return None
    classes = contest.BUILD / "bench" / "hollow"
    built = subprocess.run(["javac", "-cp", jar, "-d", classes, contest.HERE / "hollow" / "Apply.java"], stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        contest.not_run("Hollow", built.stderr.strip())
        return None
    return ["java", "-Xms2g", "-Xmx4g", "-XX:+UseSerialGC", "-cp", f"{classes}:{jar}", "Apply"]


def main():
    names, command, changes = contest.names_file(), hollow(), KEYS // 100
    for kind, text in KINDS.items():
        peer = command and contest.Contestant("Hollow", [*command, kind, KEYS, changes, OPTIONS.seed, names, WARMUP])
        ours = contest.Contestant("ours", [contest.BUILD / "bench" / "contestant_apply", kind, KEYS, changes, OPTIONS.seed],
                                  env=os.environ | {"TALLY_BENCH_NAMES": str(names)})
        run = [one for one in (ours, peer) if one]
        for one in run:
            one.ready()
        found = {}
        for _ in range(OPTIONS.rounds):
            for one in run:
                for what in ("apply", "bytes") if one is ours else ("apply", "indexed", "bytes"):
                    value = one.ask(what)
                    found.setdefault((one.name, what), []).extend([] if value is None else [value])
        for one in run:
            one.close()
        subject = f"apply {changes} of {SIZE} {text}"
        target = "<= 0.1" if KEYS == 1000000 else ""
        contest.emit("hollow", subject, found["ours", "apply"], "ns/change", "Hollow", found.get(("Hollow", "indexed")), target)
        contest.emit("hollow", subject, found["ours", "apply"], "ns/change", "Hollow, not readable by key", found.get(("Hollow", "apply")))
        contest.emit("hollow", f"a frame of {changes} of {SIZE} {text}", found["ours", "bytes"], "bytes/change", "Hollow's blob",
                     found.get(("Hollow", "bytes")))


if __name__ == "__main__":
    main()
