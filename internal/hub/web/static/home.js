// The home page: says what was understood while one types, and makes the link.

import { call } from "./api.js";
import { $, el, show } from "./dom.js";

const fields = { repo: $("repo"), ref: $("ref"), subdir: $("subdir"), path: $("path"), open: $("open") };
const hint = $("understood").textContent;
let asked = 0;
let timer = 0;
let answer = null;

for (const field of Object.values(fields)) {
  field.addEventListener("input", () => {
    answer = null;
    clearTimeout(timer);
    timer = setTimeout(ask, 150);
  });
}

$("launcher").addEventListener("submit", async (e) => {
  e.preventDefault();
  clearTimeout(timer);
  $("go").disabled = true;
  try {
    if (!answer) await ask();
    if (answer) location.href = new URL(answer.launch).pathname + new URL(answer.launch).search;
    else fields.repo.focus();
  } finally {
    $("go").disabled = false;
  }
});

async function ask() {
  const mine = ++asked;
  const repo = fields.repo.value.trim();
  if (!repo) {
    understood(hint, false);
    $("share").hidden = true;
    return;
  }
  try {
    const parsed = await call("POST", "/api/parse", { repo, ref: fields.ref.value.trim(), subdir: fields.subdir.value.trim(), path: fields.path.value.trim(), open: fields.open.value });
    if (mine !== asked) return; // a newer question is on its way
    answer = parsed;
    explain(parsed);
  } catch (error) {
    if (mine !== asked) return;
    // Half an address is not a mistake yet: say it calmly while it is typed.
    understood([error.message, error.hint].filter(Boolean).join(" "), true);
    $("share").hidden = true;
  }
}

const hosts = { gh: "GitHub", gl: "GitLab", gist: "Gist", git: "Git", dir: "Directory" };

function explain(p) {
  const parts = [el("strong", {}, hosts[p.spec.provider] || p.spec.provider), " ", p.name];
  parts.push(p.spec.ref === "HEAD" ? ", default branch" : ", at ", p.spec.ref === "HEAD" ? "" : el("code", {}, p.spec.ref));
  const chosen = fields.open.selectedOptions[0];
  if (p.url_path) parts.push(", opens ", el("code", {}, p.path || p.url_path));
  if (fields.open.value && p.path) parts.push(" with ", chosen.textContent);
  $("understood").className = "understood good";
  $("understood").replaceChildren(...parts.filter((x) => x !== ""));
  fields.repo.removeAttribute("aria-invalid");
  fields.ref.placeholder = p.spec.ref === "HEAD" ? "the default branch" : p.spec.ref;
  fields.subdir.placeholder = p.spec.subdir || "the whole repository";
  fields.path.placeholder = p.path || "notebooks/index.ipynb";
  $("link").value = p.launch;
  $("markdown").value = p.badge.markdown;
  $("rest").value = p.badge.rest;
  $("html").value = p.badge.html;
  $("share").hidden = false;
}

function understood(text, bad) {
  $("understood").className = bad ? "understood bad" : "understood";
  show($("understood"), text);
  if (bad) fields.repo.setAttribute("aria-invalid", "true");
  else fields.repo.removeAttribute("aria-invalid");
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = $(button.dataset.copy);
    source.select();
    try {
      await navigator.clipboard.writeText(source.value);
    } catch {
      document.execCommand("copy"); // plain http has no clipboard
    }
    show(button, "Copied");
    setTimeout(() => show(button, "Copy"), 1500);
  });
}

if (fields.repo.value) ask();
