// The exact versions in an image: one file for each ecosystem, to look at or to
// commit. They are asked for when somebody opens the list.

import { call } from "./api.js";
import { el } from "./dom.js";

export function resolved(launch) {
  const list = el("ul", { class: "versions" });
  const box = el("details", { class: "resolved" }, el("summary", {}, "Installed versions"), list);
  box.addEventListener("toggle", async () => {
    if (!box.open || list.childElementCount) return;
    const line = el("li", { class: "muted" }, "Looking…");
    list.append(line);
    try {
      const files = await call("GET", `/api/launches/${launch}/resolved`);
      list.replaceChildren(...files.map((f) => file(launch, f)));
      if (!files.length) list.append(el("li", { class: "muted" }, "This image does not say what is in it."));
    } catch (error) {
      line.textContent = error.message;
    }
  });
  return box;
}

function file(launch, f) {
  const href = `/api/launches/${launch}/resolved/${encodeURIComponent(f.name)}`;
  const lines = f.content.split("\n").filter((l) => /^[^\s#{}[\]]/.test(l)).length;
  return el("li", {}, el("a", { href }, f.name), " ", el("span", { class: "muted" }, `${lines} lines`), " ", el("a", { class: "button", href, download: f.name }, "Download"));
}
