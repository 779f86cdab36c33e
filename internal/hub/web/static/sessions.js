// My sessions: what runs, how long it still may, and stopping it.

import { call } from "./api.js";
import { $, el, show } from "./dom.js";
import { left } from "./format.js";
import { sessionURL } from "./links.js";
import { resolved } from "./resolved.js";
import { words } from "./state.js";

let sessions = [];
let clocks = []; // [element, time]

async function load() {
  try {
    sessions = await call("GET", "/api/sessions");
    draw();
    recent(await call("GET", "/api/launches"));
  } catch (error) {
    show($("status"), error.message);
  }
}

function draw() {
  clocks = [];
  show($("status"), sessions.length ? "" : "No session is running.");
  $("sessions").replaceChildren(...sessions.map(card));
  tick();
}

const name = (repo) => {
  const [, ...rest] = repo.split("/");
  try {
    return decodeURIComponent(rest.join("/")).replace(/^https?:\/\//, "").replace(/\/HEAD$/, "") || repo;
  } catch {
    return repo;
  }
};

function card(s) {
  const item = el("li", { class: "card session" });
  const times = el("dl");
  if (s.idle_ends) times.append(el("div", {}, el("dt", {}, "Ends when idle in"), clock(s.idle_ends)));
  if (s.ends) times.append(el("div", {}, el("dt", {}, "Ends at the latest in"), clock(s.ends)));
  item.append(
    el("div", { class: "head" }, el("h2", {}, name(s.repo)), el("span", { class: "tag" }, s.state)),
    times,
    el(
      "p",
      { class: "actions" },
      el("a", { class: "button primary", href: sessionURL(s.url, s.path, s.token) }, "Open"),
      el("button", { type: "button", onclick: (e) => act(e, "POST", `/api/sessions/${s.id}/keep-alive`, "The idle time begins again.") }, "Keep alive"),
      el("button", { type: "button", class: "danger", onclick: (e) => stop(e, s) }, "Stop"),
    ),
    s.launch_id ? resolved(s.launch_id) : "",
  );
  return item;
}

function clock(time) {
  const dd = el("dd");
  clocks.push([dd, Date.parse(time)]);
  return dd;
}

function tick() {
  for (const [e, at] of clocks) {
    show(e, left(at - Date.now()));
    e.classList.toggle("soon", at - Date.now() < 120000);
  }
}

// stop asks twice, in the button itself: what is in a session does not come back.
function stop(e, s) {
  const button = e.currentTarget;
  if (button.dataset.sure) return act(e, "DELETE", `/api/sessions/${s.id}`, "The session was stopped.");
  button.dataset.sure = "1";
  button.textContent = "Stop and lose what is in it?";
  setTimeout(() => {
    delete button.dataset.sure;
    button.textContent = "Stop";
  }, 5000);
}

async function act(e, method, path, said) {
  e.currentTarget.disabled = true;
  let text = said;
  try {
    await call(method, path);
  } catch (error) {
    text = error.message;
  }
  await load();
  show($("status"), text);
}

function recent(launches) {
  $("launches").hidden = launches.length === 0;
  launches.sort((a, b) => Date.parse(b.created) - Date.parse(a.created));
  $("recent").replaceChildren(
    ...launches.slice(0, 10).map((l) => {
      const provider = l.spec.provider;
      const repo = provider === "gl" || provider === "git" ? encodeURIComponent(l.spec.repo) : l.spec.repo;
      const asked = new URLSearchParams();
      if (l.spec.subdir) asked.set("subdir", l.spec.subdir);
      if (l.path) asked.set("urlpath", l.path);
      const query = asked.size ? "?" + asked : "";
      return el(
        "li",
        {},
        el("a", { href: `/v2/${provider}/${repo}/${l.spec.ref}${query}#launch=${l.id}` }, l.spec.subdir ? `${l.spec.repo}/${l.spec.subdir}` : l.spec.repo),
        el("span", { class: "tag " + l.phase }, (words[l.phase] || [l.phase])[0]),
        el("time", { class: "muted", datetime: l.created }, new Date(l.created).toLocaleString()),
      );
    }),
  );
}

setInterval(tick, 1000);
setInterval(load, 30000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) load();
});
load();
