# SPDX-License-Identifier: Apache-2.0
"""Reads by the bytes of real names, hashing included, natively: the mirror beside maps in C (contestant_strings.c) and in Go (go/maps).

All keys that are asked for are there, drawn uniformly, and lie end to end in the order of asking: a read pays for hashing it and for the map. Peers get
XXH3 where they leave the hash to their user, and huge pages for their memory as the mirror has them; they compare bytes, the mirror fingerprints.
Go's maps are measured with 8-byte keys too, beside the mirror; the other peers with those are in bench_mirror.c.
`alone`: the version pinned, the table found by name, the key read, the version let go; otherwise many reads go through one view.
"""
import os
import shutil
import subprocess
import sys

import contest

SIZES = {"smoke": {"2k": 2000}, "quick": {"10k": 10_000, "1M": 1_000_000}, "full": {"10k": 10_000, "1M": 1_000_000, "10M": 10_000_000}}
READS = {"smoke": 1000, "quick": 200_000, "full": 1_000_000}
IN_C = {"table": "open addressing, no lock", "rwlock": "open addressing, pthread_rwlock", "ck_ht": "Concurrency Kit ck_ht",
        "rculfhash": "liburcu rculfhash"}
IN_GO = {"rwmutex": "Go map, RWMutex", "syncmap": "Go sync.Map"}
WHATS = ("dependent", "independent")


def go_maps():
    """The built program, or None."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    out = contest.BUILD / "bench" / "go-maps"
    if not go:
        contest.not_run("Go", "no go in the path")
        return None
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
    built = subprocess.run([go, "build", "-o", out, "."], cwd=contest.HERE / "go" / "maps", env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        contest.not_run("Go", built.stderr.strip())
        return None
    return out


def target(peer, keys):
    """Faster than each that may change under its readers; twice as fast as all of those but the rwlock's table where nothing is in a cache."""
    if peer == "table":
        return ""
    return "<= 0.5" if keys >= 10_000_000 and peer != "rwlock" else "< 1"


def measure(options, keys, contestants):
    """{(peer, what): values}; a contestant without a measurement gives none."""
    ours, go = contestants
    wanted = [(ours, "mirror", what) for what in (*WHATS, "get_many", "alone_dependent", "alone_independent")]
    wanted += [(ours, peer, what) for peer in IN_C for what in WHATS]
    wanted += [(go, peer, what) for peer in IN_GO for what in WHATS if go]
    found = {(peer, what): [] for peer in ("mirror", *IN_C, *IN_GO) for what in WHATS}
    for _ in range(options.rounds):
        for one, peer, what in wanted:
            value = one.ask(f"{peer}.{what}")
            found.setdefault((peer, what), []).extend([] if value is None else [value])
    return found


def report(found, keys, size):
    for what in WHATS:
        for peer, name in (IN_C | IN_GO).items():
            contest.emit("strings", f"read by name, {what}, {size} keys", found["mirror", what], "ns", name, found[peer, what], target(peer, keys))
    for what in WHATS:
        for peer, name in (IN_C | IN_GO).items():
            if peer != "table":
                contest.emit("strings", f"read by name alone, {what}, {size} keys", found["mirror", f"alone_{what}"], "ns", name, found[peer, what])
    contest.emit("strings", f"get_many of 16 names, {size} keys", found["mirror", "get_many"], "ns", "single reads", found["mirror", "independent"])


def of_ids(sized, go, rounds, size, keys):
    """The mirror and Go's maps with keys of 8 bytes."""
    ours = contest.Contestant("mirror of ids", [contest.BUILD / "bench" / "contestant_mirror", "--ids", *sized])
    theirs = go and contest.Contestant("Go's maps of ids", [go, "-ids", *(str(word).replace("--", "-") for word in sized)])
    found = {}
    for _ in range(rounds):
        for what in WHATS:
            for one, name in [(ours, what)] + [(theirs, f"{peer}.{what}") for peer in IN_GO if theirs]:
                value = one.ask(name)
                found.setdefault(name, []).extend([] if value is None else [value])
    for what in WHATS:
        for peer, name in IN_GO.items():
            contest.emit("strings", f"read by 8-byte key, {what}, {size} keys", found[what], "ns", name, found.get(f"{peer}.{what}"), target(peer, keys))
    for one in (ours, theirs):
        if one:
            one.close()


def main():
    options = contest.options(keys=0)
    go = None if options.smoke else go_maps()
    # Memory from malloc in huge pages too.
    environment = os.environ | {"TALLY_BENCH_NAMES": str(contest.names_file()), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    sizes = {size: keys for size, keys in SIZES["full"].items() if options.keys == keys} if options.keys else SIZES[options.size]
    for size, keys in sizes.items():
        sized = ["--keys", keys, "--reads", READS[options.size], "--seed", options.seed]
        contestants = [contest.Contestant("in C", [contest.BUILD / "bench" / "contestant_strings", *sized], env=environment),
                       go and contest.Contestant("Go", [go, *(str(word).replace("--", "-") for word in sized)], env=environment)]
        for one in contestants:
            if one:
                one.ready()
        report(measure(options, keys, contestants), keys, size)
        for one in contestants:
            if one:
                one.close()
        of_ids(sized, go, options.rounds, size, keys)
    return 0


if __name__ == "__main__":
    sys.exit(main())
