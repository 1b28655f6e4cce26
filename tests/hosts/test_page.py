# SPDX-License-Identifier: Apache-2.0
"""The live page: what the edge serves, and what a browser shows of a real edge under load."""
import json
import re
import time

import hosts
from chromium import Browser
from hosts import harness
from harness import get, request, wait_until

PAGE_BYTES_MAX = 30000 # without the client
SHOWN = """({
  state: document.body.dataset.state,
  version: Number(document.getElementById('version').textContent.replaceAll(',', '')),
  notice: document.getElementById('notice').hidden ? '' : document.getElementById('notice').textContent,
  table: document.querySelector('#table :checked')?.value,
  found: document.getElementById('found').hidden ? null : document.getElementById('found-count').textContent,
  lists: Object.fromEntries(['top', 'found'].map((id) => [id, [...document.querySelectorAll(`#${id} li`)].map((li) =>
    [li.dataset.key, Number(li.querySelector('b').textContent.replaceAll(',', '')), Number(li.querySelector('i').style.transform.slice(7, -1))])])),
  figures: Object.fromEntries([...document.querySelectorAll('#figures b')].map((b) => [b.id, b.textContent]))
})"""


class Files(harness.Case):
    def test_files(self):
        server = self.server().start()
        edge = self.edge("edge", server).start(wait=False)
        edge.wait_logged("event=listening")
        index = get(edge.at, "/")
        self.assertEqual(index.headers["Content-Type"], "text/html; charset=utf-8")
        paths = re.findall(r'(?:href|src)="(/page/[^"]+)"', index.body.decode()) + ["/page/worker.js"]
        own = {path: get(edge.at, path) for path in ("/", *paths)}
        self.assertLess(sum(len(answer.body) for answer in own.values()), PAGE_BYTES_MAX)
        imported, todo = {}, ["/client/src/web.js"]
        while todo:
            path = todo.pop()
            imported[path] = answer = get(edge.at, path)
            names = [f"/client/src/{name}" for name in re.findall(r"from '\./([^']+)'", answer.body.decode())]
            todo += [name for name in names if name not in imported]
        wasm = {f"/client/wasm/{name}.wasm": get(edge.at, f"/client/wasm/{name}.wasm") for name in ("tallycast", "tallycast-shared")}
        types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml", "wasm": "application/wasm"}
        for path, answer in {**own, **imported, **wasm}.items():
            with self.subTest(path):
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.headers["Content-Type"], types.get(path.rpartition(".")[2], "text/html; charset=utf-8"))
                self.assertEqual(answer.headers["Cross-Origin-Opener-Policy"], "same-origin")
                self.assertEqual(answer.headers["Cross-Origin-Embedder-Policy"], "require-corp")
                self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
                self.assertIn("default-src 'none'", answer.headers["Content-Security-Policy"])
                self.assertEqual(answer.headers["Cache-Control"], "no-cache")
                tag = answer.headers["ETag"]
                same = get(edge.at, path, headers={"If-None-Match": f'W/{tag}, "x"'})
                self.assertEqual((same.status, same.body, same.headers["ETag"]), (304, b"", tag))
                other = get(edge.at, path, headers={"If-None-Match": '"0000000000000000"'})
                self.assertEqual((other.status, other.body), (200, answer.body))
                head = request(edge.at, "HEAD", path + "?x=1")
                self.assertEqual((head.status, head.body, head.headers["Content-Length"]), (200, b"", str(len(answer.body))))
                refused = request(edge.at, "POST", path, b"")
                self.assertEqual((refused.status, refused.headers["Allow"]), (405, "GET, HEAD"))
        package = hosts.unpack(self.work)
        for path, answer in {**imported, **wasm}.items():
            self.assertEqual(answer.body, (package / path.removeprefix("/client/")).read_bytes(), "not the packed package's")
        for path in ("/page", "/page/", "/client/", "/index.html", "/client/src/node.js", "/client/../page/page.js", "/page/style.css/"):
            self.assertEqual(get(edge.at, path).status, 404, path)
        self.assertEqual(get(server.at, "/").status, 404)


class Page(hosts.HostCase):
    host = "page"

    def shown(self):
        return self.page.eval(SHOWN)

    def wait_shown(self, condition, what, timeout=30):
        last = None

        def reached():
            nonlocal last
            last = self.shown()
            return last if condition(last) else None
        return wait_until(reached, lambda: f"{what}, the page shows {json.dumps(last)[:2000]}", timeout)

    def check_values(self, shown):
        """The rows are of the version that is shown; how many of them could be held against the server's answers."""
        table = shown["table"]
        want = self.truth.values[table].get(shown["version"])
        if want is None:
            return 0
        want = dict(zip(self.control.job["watched"][table], want))
        checked, greatest = 0, max(value for _, value, _ in shown["lists"]["top"])
        for key, value, bar in shown["lists"]["top"] + shown["lists"]["found"]:
            if key in want:
                self.assertEqual(value, want[key], f"{key} at version {shown['version']}")
                self.assertAlmostEqual(bar, value / greatest, delta=0.0001)
                checked += 1
        return checked

    def test_what_a_person_sees_and_does(self):
        self.prepare()
        with Browser() as browser:
            self.page = browser.page(self.edge_.at + "/")
            self.see_it_live()
            self.search_by_keyboard()
            self.choose_by_keyboard()
            self.look_at_sizes_and_colours()
            self.see_what_is_wrong()
            faults = [fault for fault in self.page.faults() if "WebSocket connection to" not in fault and "ERR_CONNECTION_REFUSED" not in fault]
            self.assertEqual(faults, [])

    def see_it_live(self):
        first = self.wait_shown(lambda shown: shown["state"] == "live" and shown["figures"]["reads"] != "–" and shown["lists"]["top"], "live")
        self.assertEqual(len(first["lists"]["top"]), 20)
        self.assertTrue(self.page.eval("crossOriginIsolated"))
        end, checked, seen = time.monotonic() + 3, 0, []
        while time.monotonic() < end:
            seen.append(self.shown())
            checked += self.check_values(seen[-1])
            time.sleep(0.02) # for the page
        versions = [shown["version"] for shown in seen]
        self.assertEqual(versions, sorted(versions))
        self.assertGreater(len(set(versions)), 15, "the page stands still")
        self.assertGreater(checked, 300)
        bars = {json.dumps([bar for _, _, bar in shown["lists"]["top"]]) for shown in seen}
        self.assertGreater(len(bars), 10, "the bars stand still")
        last = seen[-1]["figures"]
        self.assertRegex(last["age"], r"^\d+ ms$")
        self.assertRegex(last["lag"], r"^\d$")
        self.assertGreater(float(last["changes"].replace(",", "")), 100)
        self.assertRegex(last["reads"], r"^[\d.]+[KM]$")
        order = [key for key, _, _ in self.wait_shown(lambda shown: [value for _, value, _ in shown["lists"]["top"]] ==
                 sorted((value for _, value, _ in shown["lists"]["top"]), reverse=True), "the greatest first")["lists"]["top"]]
        self.assertEqual(len(set(order)), 20)
        print(f"# page: {len(set(versions))} versions shown in 3 s, {checked} rows checked, {len(bars)} pictures of the bars; reads a second {last['reads']}")

    def search_by_keyboard(self):
        keys = self.control.job["watched"]["files"]
        key = keys[3]
        self.page.key("/")
        self.assertEqual(self.page.eval("document.activeElement.id"), "search")
        part = key[len(key) // 3:].swapcase()
        self.page.type(part)
        self.assertEqual(self.page.eval("document.getElementById('search').value"), part)
        self.wait_shown(lambda shown: key in [row[0] for row in shown["lists"]["found"]], f"{key} found by {part}")
        wait_until(lambda: self.check_values(self.shown()), "values of what is found")
        self.assertIn("q=", self.page.eval("location.hash"))
        self.page.key("Escape")
        self.wait_shown(lambda shown: shown["found"] is None, "the search is over")
        self.assertEqual(self.page.eval("document.getElementById('search').value"), "")
        self.page.key("/")
        self.page.type("no such key")
        self.wait_shown(lambda shown: shown["found"] == "no key has it", "nothing found")
        self.page.key("Escape")

    def choose_by_keyboard(self):
        self.page.key("/")
        self.page.key("Tab", shift=True)
        self.assertEqual(self.page.eval("document.activeElement.name"), "table")
        self.page.key("ArrowRight")
        repos = self.wait_shown(lambda shown: shown["table"] == "repos" and {row[0] for row in shown["lists"]["top"]} <= set(self.control.job["all"]["repos"]), "repos")
        self.assertGreater(len(repos["lists"]["top"]), 3)
        wait_until(lambda: self.check_values(self.shown()), "values of the other table")
        self.page.key("ArrowLeft")
        self.wait_shown(lambda shown: shown["table"] == "files" and len(shown["lists"]["top"]) == 20, "files again")

    def look_at_sizes_and_colours(self):
        for width in (320, 390, 768, 1200):
            self.page.resize(width, 800)
            wide = self.page.eval("[document.documentElement.scrollWidth, innerWidth]")
            self.assertLessEqual(wide[0], width, f"wider than a window of {width}")
        colours = []
        for dark in (False, True):
            self.page.media(dark)
            colours.append(self.page.eval("getComputedStyle(document.body).backgroundColor"))
        self.assertNotEqual(*colours)

    def see_what_is_wrong(self):
        self.server_.freeze()
        stale = self.wait_shown(lambda shown: shown["state"] == "stale", "stale")
        self.assertIn("heard nothing new", stale["notice"])
        self.server_.thaw()
        self.wait_shown(lambda shown: shown["state"] == "live" and not shown["notice"], "live again")
        self.edge_.kill()
        gone = self.wait_shown(lambda shown: shown["state"] == "gone" and shown["notice"], "gone")
        self.assertIn(f"version {gone['version']:,}", gone["notice"])
        self.assertEqual(gone["figures"]["lag"], "–")
        self.edge_.start()
        result = self.feeder.stop()
        self.wait_shown(lambda shown: shown["state"] == "live" and shown["version"] >= result["acknowledged_version"], "caught up")
        counted = hosts.harness.recount(self.feeder.written.elements())["files"]
        most = [value for _, value in counted.most_common(20)]
        end = self.wait_shown(lambda shown: [value for _, value, _ in shown["lists"]["top"]] == most, f"the greatest, {most}, in order")
        for key, value, _ in end["lists"]["top"]:
            self.assertEqual(value, counted[key])
        rare = min(counted, key=lambda key: (counted[key], key))
        self.page.key("/")
        self.page.type(rare)
        found = self.wait_shown(lambda shown: shown["lists"]["found"] and shown["lists"]["found"][0][0] == rare, f"{rare} found")
        self.assertEqual(found["lists"]["found"][0][1], counted[rare])


if __name__ == "__main__":
    hosts.main("chromium")
