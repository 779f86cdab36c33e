// The launch page: asks for a launch or joins the one this tab already has,
// shows how it goes, and opens the session.

import { call } from "./api.js";
import { $, el, show } from "./dom.js";
import { duration } from "./format.js";
import { launchID, launchKey, sessionURL } from "./links.js";
import { LogView } from "./log.js";
import { apply, initial, isFinal, place, sentence, steps } from "./state.js";
import { resolved } from "./resolved.js";

const root = $("launch");
const { spec, path } = root.dataset;
const kind = root.dataset.class; // of session
const key = launchKey(spec, kind ? `${path}\n${kind}` : path);
let state = initial();
let id = "";
let source = null;
let lines = []; // came in since the last frame
let frame = 0;
let silence = 0; // the timer that ends it
let recalled = false; // the launch is one this tab had, not one the address names
let watched = false; // we saw it become ready, so going there is what was asked for

const log = new LogView($("lines"), (on) => $("follow").setAttribute("aria-pressed", String(on)));

async function start() {
  state = initial();
  id = launchID(location.hash);
  recalled = !id;
  id ||= recall();
  draw();
  try {
    let launch = id ? await join(id) : null;
    if (!launch) launch = await call("POST", "/api/launches", { repo: spec, path, class: kind, rebuild: false });
    id = launch.id;
    remember();
    if (launch.revision) commit(launch.revision);
    watched = !isFinal(launch.phase);
    $("download").href = `/api/launches/${id}/log`;
    $("download").setAttribute("download", `binnacle-${id}.log`);
    $("cancel").hidden = isFinal(launch.phase);
    listen();
  } catch (error) {
    fault(error, true);
  }
}

// join returns the launch this tab had, unless it is gone.
async function join(old) {
  try {
    return await call("GET", `/api/launches/${old}`);
  } catch (error) {
    if (error.code === "not_found") return null;
    throw error;
  }
}

function recall() {
  try {
    return sessionStorage.getItem(key) || "";
  } catch {
    return ""; // storage may be forbidden
  }
}

function remember() {
  history.replaceState(null, "", "#launch=" + id);
  try {
    sessionStorage.setItem(key, id);
  } catch {
    // the fragment remembers it too
  }
}

function listen() {
  source = new EventSource(`/api/launches/${id}/events?after=${state.last}`);
  heard();
  source.addEventListener("keep-alive", heard);
  for (const kind of ["phase", "log", "step", "queue", "note", "end", "problem"]) {
    source.addEventListener(kind, (e) => {
      heard();
      take(JSON.parse(e.data));
    });
  }
  source.onerror = () => {
    // The browser comes back by itself after a cut line, but not after an
    // error answer, which a hub that restarts may give.
    if (source.readyState !== EventSource.CLOSED || state.ended) return;
    show($("status"), "The connection was lost. Trying again…");
    setTimeout(listen, 2000);
  };
}

// A hub on a machine that is lost ends no connection: it is silent, longer than
// the 15 seconds between its signs of life.
function heard() {
  clearTimeout(silence);
  if (state.ended) return;
  silence = setTimeout(() => {
    source.close();
    show($("status"), "The connection was lost. Trying again…");
    listen();
  }, 45000);
}

function take(event) {
  lines.push(...apply(state, event));
  if (event.kind === "phase" && event.phase === "fetching") refresh();
  if (state.ended) {
    source.close();
    finish();
  } else if (event.kind === "problem") {
    source.close();
    setTimeout(listen, 2000);
  }
  if (!frame) frame = requestAnimationFrame(draw);
}

async function refresh() {
  const launch = await join(id).catch(() => null); // only for show
  if (launch && launch.revision) commit(launch.revision);
}

function commit(revision) {
  $("commit").hidden = false;
  show($("commit"), revision.commit.slice(0, 10));
  $("commit").title = revision.commit;
}

function draw() {
  frame = 0;
  if (lines.length) {
    $("log").hidden = false;
    log.add(lines);
    lines = [];
  }
  count();
  show($("status"), sentence(state));
  phases();
  notes();
  icon();
}

function count() {
  const all = log.lines.length;
  show($("count"), log.shown ? `${log.count()} of ${all} lines` : `${all} lines`);
}

function phases() {
  const list = steps(state);
  const box = $("phases");
  if (!box.children.length) {
    for (const s of list) box.append(el("li", {}, el("span", { class: "dot", "aria-hidden": "true" }), el("span", { class: "label" }, s.label), el("span", { class: "time" })));
  }
  list.forEach((s, i) => {
    const li = box.children[i];
    li.className = s.mark;
    if (s.mark === "now") li.setAttribute("aria-current", "step");
    else li.removeAttribute("aria-current");
    const now = s.mark === "now" && state.since ? Math.max(0, Date.now() - state.since) : undefined;
    show(li.lastChild, s.mark === "skipped" ? "not needed" : duration(s.millis ?? now));
  });
}

let noted = 0;
function notes() {
  for (; noted < state.notes.length; noted++) {
    const n = state.notes[noted];
    $("notes").append(el("p", { class: "note card" }, el("strong", {}, place(n) || "Note"), " ", n.message, n.hint ? " " + n.hint : ""));
  }
}

function icon() {
  const name = { ready: "success", failed: "fail", canceled: "fail" }[state.phase] || "building";
  const href = `/favicon_${name}.ico`;
  if ($("favicon").getAttribute("href") !== href) $("favicon").setAttribute("href", href);
}

async function finish() {
  $("cancel").hidden = true;
  if (state.phase === "failed") return fault(state.error || { message: "The launch failed." }, true);
  if (state.phase === "canceled") return fault({ code: "canceled", message: "The launch was canceled." }, true);
  try {
    const launch = await call("GET", `/api/launches/${id}`);
    if (!launch.session) return built(launch);
    const session = watched ? launch.session : await call("GET", `/api/sessions/${launch.session.id}`);
    const url = sessionURL(session.url, path || session.path || launch.path, session.token || launch.session.token);
    open(url);
    if (watched) {
      watched = false; // coming back by the browser's button shows this page, not the session again
      location.assign(url);
    }
  } catch (error) {
    if (error.code !== "not_found") return fault(error, true);
    if (recalled) return retry(); // the link was opened again: a new session is what is wanted
    fault({ code: "not_found", message: "This session has ended.", hint: "Launch the repository again for a new one." }, false);
  }
}

function open(url) {
  outcome("ready", el("h2", {}, "Your session is running"), el("p", {}, el("a", { class: "button primary", href: url }, "Open it"), " ", el("a", { class: "button", href: "/sessions" }, "My sessions"), " ", again("Launch another")), resolved(id));
}

function built(launch) {
  outcome("ready", el("h2", {}, "The image is built"), el("p", { class: "mono" }, launch.image || ""), resolved(launch.id));
}

function again(label) {
  return el("button", { type: "button", onclick: retry }, label);
}

function retry() {
  if (source) source.close();
  location.hash = "";
  try {
    sessionStorage.removeItem(key);
  } catch {
    // nothing was kept
  }
  location.reload();
}

function fault(error, failed) {
  if (failed && !isFinal(state.phase)) {
    state.times[state.phase || "waiting"] ??= state.since ? Date.now() - state.since : 0;
    state.phase = error.code === "canceled" ? "canceled" : "failed";
  }
  draw();
  const where = place(error);
  const title = { build_failed: "The repository does not build", limited: "Too many launches", not_found: "Not found", canceled: "Canceled" }[error.code] || "The launch failed";
  outcome(
    "fault",
    el("h2", {}, title),
    where ? el("p", { class: "place" }, el("code", {}, where)) : null,
    el("p", { class: "said" }, error.message),
    ...excerpt(error.excerpt),
    error.hint ? el("p", { class: "hint" }, el("strong", {}, "What to do: "), error.hint) : null,
    el("p", { class: "actions" }, again("Try again"), id ? el("a", { class: "button", href: `/api/launches/${id}/log` }, "Whole log") : null, el("a", { class: "button", href: "/" }, "Another repository")),
    error.id ? el("p", { class: "muted small" }, "Error id ", el("code", {}, error.id)) : null,
  );
  $("outcome").focus({ preventScroll: true });
}

// excerpt is what the tool said; its lines keep their columns, so it scrolls in
// itself and takes the focus of the keyboard for that.
function excerpt(lines) {
  if (!lines || !lines.length) return [];
  return [el("p", { class: "muted small", id: "excerpt-title" }, "What the tool said"), el("pre", { class: "excerpt", tabindex: "0", role: "region", "aria-labelledby": "excerpt-title" }, lines.join("\n"))];
}

function outcome(kind, ...children) {
  $("outcome").replaceChildren(el("section", { class: "card outcome " + kind }, ...children.filter(Boolean)));
}

$("cancel").addEventListener("click", async () => {
  $("cancel").disabled = true;
  try {
    await call("DELETE", `/api/launches/${id}`);
  } catch (error) {
    show($("status"), error.message);
  }
  $("cancel").disabled = false;
});

$("follow").addEventListener("click", () => log.follow(!log.following));

let typing = 0;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    log.filter($("filter").value);
    count();
  }, 120);
});

setInterval(() => {
  if (!state.ended && !isFinal(state.phase)) phases();
}, 250);

// Back from the session in the browser's cache: what was true may have changed.
addEventListener("pageshow", (e) => {
  if (e.persisted) location.reload();
});

start();
