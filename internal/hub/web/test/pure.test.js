// Run by `node --test`: the parts of the pages that need no document.

import assert from "node:assert/strict";
import test from "node:test";
import { lastWritten, pieces, strip } from "../static/ansi.js";
import { duration, left } from "../static/format.js";
import { launchID, sessionURL } from "../static/links.js";
import { search, view } from "../static/log.js";
import { apply, initial, place, sentence, steps } from "../static/state.js";

const plain = (line) => pieces(line).map((p) => p.text).join("");

test("a line without escapes is one piece, HTML is text", () => {
  const html = `<img src=x onerror="alert(1)"> & <b>`;
  assert.deepEqual(pieces(html), [{ text: html, cls: "", color: "" }]);
});

test("colours", () => {
  assert.deepEqual(pieces("\x1b[1;31mred\x1b[0m plain \x1b[92mgreen\x1b[39m."), [
    { text: "red", cls: "a-bold f-red", color: "" },
    { text: " plain ", cls: "", color: "" },
    { text: "green", cls: "f-bright-green", color: "" },
    { text: ".", cls: "", color: "" },
  ]);
  assert.equal(pieces("\x1b[38;5;208mx")[0].color, "rgb(255 135 0)");
  assert.equal(pieces("\x1b[38;2;1;2;3mx")[0].color, "rgb(1 2 3)");
  assert.equal(pieces("\x1b[38;2;1;2;url(x)mx").map((p) => p.color).join(""), "");
  assert.equal(pieces("\x1b[38;5;3;44mx")[0].cls, "f-yellow b-blue");
  assert.equal(pieces("\x1b[999;38mx")[0].cls, "");
});

test("other escapes and controls vanish", () => {
  assert.equal(plain("a\x1b[2Kb\x1b]8;;https://evil.example.org\x07link\x1b]8;;\x07\x00c\x1b(Bd\u202ee"), "ablinkc(Bde".replace("(B", plain("\x1b(B")));
  assert.equal(strip("\x1b[31mred\x1b[0m"), "red");
  assert.equal(lastWritten("10%\r50%\r100%\r"), "100%");
  assert.equal(lastWritten("\r"), "");
});

test("fuzz: any bytes give plain text without escapes", () => {
  let seed = 7;
  const next = () => (seed = (seed * 1103515245 + 12345) % 2147483648);
  const alphabet = ["\x1b", "[", "]", "3", "8", ";", "5", "m", "\r", "\x07", "<", "x", "\u202e", ":", "😀"];
  for (let i = 0; i < 5000; i++) {
    const line = Array.from({ length: next() % 20 }, () => alphabet[next() % alphabet.length]).join("");
    const out = pieces(line);
    // eslint-disable-next-line no-control-regex
    assert.ok(!/[\x00-\x08\x1b\r\u202e]/.test(out.map((p) => p.text).join("")), JSON.stringify(line));
    for (const p of out) assert.match(p.cls, /^[a-z -]*$/);
    for (const p of out) assert.match(p.color, /^(rgb\([0-9 ]+\))?$/);
  }
});

test("durations", () => {
  assert.deepEqual([0, 41, 412, 3456, 12400, 59700, 185000].map(duration), ["0.00 s", "0.04 s", "0.4 s", "3.5 s", "12 s", "1 min 00 s", "3 min 05 s"]);
  assert.equal(duration(undefined), "");
  assert.deepEqual([-5, 30e3, 125e3, 1200e3, 7500e3, 3e8].map(left), ["now", "30 s", "2 min 05 s", "20 min", "2 h 05 min", "3 days"]);
});

test("a path cannot carry the token away", () => {
  const base = "https://hub.example.org/user/s1/";
  for (const path of ["//evil.example.org", "https://evil.example.org/", "/\\evil.example.org", "../../user/s2/", "..%2f", "\\\\evil.example.org", "@evil.example.org", "javascript:alert(1)"]) {
    const url = new URL(sessionURL(base, path, "t"));
    assert.equal(url.origin, "https://hub.example.org", path);
    assert.ok(url.pathname.startsWith("/user/s1/"), path);
  }
  assert.equal(sessionURL(base, "lab/tree/a b.ipynb", "t&k"), base + "lab/tree/a%20b.ipynb?token=t%26k");
  assert.equal(sessionURL(base, "/notebooks/x?y=1", "t"), base + "notebooks/x?y=1&token=t");
  assert.equal(sessionURL(base, "", ""), base);
});

test("fragments", () => {
  assert.equal(launchID("#launch=abc123"), "abc123");
  for (const bad of ["", "#launch=", "#launch=../x", "#launch=A", "#x"]) assert.equal(launchID(bad), "");
});

const at = (s) => new Date(Date.UTC(2026, 0, 1, 0, 0, s)).toISOString();

test("events change the state once, whatever is sent again", () => {
  const s = initial();
  const events = [
    { id: 1, kind: "phase", phase: "waiting", time: at(0) },
    { id: 2, kind: "queue", phase: "waiting", position: 3, time: at(0) },
    { id: 3, kind: "phase", phase: "resolving", time: at(2), millis: 2000 },
    { id: 4, kind: "log", phase: "resolving", message: "hello", time: at(2) },
    { id: 5, kind: "phase", phase: "launching", time: at(3) },
  ];
  const lines = [...events, ...events].flatMap((e) => apply(s, e));
  assert.deepEqual(lines, ["hello"]);
  assert.equal(s.last, 5);
  assert.deepEqual(steps(s).map((x) => x.mark), ["done", "done", "skipped", "skipped", "now", "todo"]);
  assert.equal(s.times.waiting, 2000);
  apply(s, { id: 6, kind: "end", phase: "ready", time: at(4) });
  assert.ok(s.ended);
  assert.deepEqual(steps(s).map((x) => x.mark), ["done", "done", "skipped", "skipped", "done", "done"]);
});

test("queue, failure and trouble in words", () => {
  const s = initial();
  apply(s, { id: 1, kind: "phase", phase: "waiting", time: at(0) });
  apply(s, { id: 2, kind: "queue", phase: "waiting", position: 1, time: at(0) });
  assert.equal(sentence(s), "You are next in the queue.");
  apply(s, { id: 0, kind: "problem", phase: "waiting", error: { message: "Away." }, time: at(0) });
  assert.equal(sentence(s), "Away.");
  apply(s, { id: 3, kind: "phase", phase: "building", time: at(1) });
  apply(s, { id: 4, kind: "end", phase: "failed", time: at(2), error: { message: "No.", file: "apt.txt", line: 2 } });
  assert.equal(place(s.error), "apt.txt, line 2");
  assert.equal(steps(s).find((x) => x.phase === "building").mark, "failed");
});

test("a window of a long log", () => {
  assert.deepEqual(view(0, 400, 20, 50000), { first: 0, last: 32 });
  assert.deepEqual(view(999600, 400, 20, 50000), { first: 49968, last: 50000 });
  assert.deepEqual(view(1e9, 400, 20, 3), { first: 3, last: 3 });
  assert.deepEqual(search(["a", "\x1b[1mB\x1b[0mc", "d"], "bC"), [1]);
});
