// A log of many thousand lines: only those on the screen are in the document.

import { pieces, strip } from "./ansi.js";
import { el } from "./dom.js";

const over = 12; // lines drawn above and below what is seen

// view is which lines to draw: pure, for its test.
export function view(scrollTop, height, lineHeight, total) {
  const first = Math.max(0, Math.floor(scrollTop / lineHeight) - over);
  const last = Math.min(total, Math.ceil((scrollTop + height) / lineHeight) + over);
  return { first: Math.min(first, last), last };
}

// search finds the lines of [from, to) that hold the needle.
export function search(lines, needle, from = 0) {
  needle = needle.toLowerCase();
  const found = [];
  for (let i = from; i < lines.length; i++) {
    if (strip(lines[i]).toLowerCase().includes(needle)) found.push(i);
  }
  return found;
}

export class LogView {
  constructor(box, onFollow) {
    this.box = box;
    this.onFollow = onFollow;
    this.lines = [];
    this.shown = null; // indexes of the filtered lines, null for all
    this.needle = "";
    this.following = true;
    this.drawn = "";
    this.sizer = el("div", { class: "sizer" });
    this.window = el("div", { class: "window" });
    this.sizer.append(this.window);
    box.append(this.sizer);
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.soon()).observe(box);
  }

  add(lines) {
    const from = this.lines.length;
    for (const line of lines) this.lines.push(line);
    if (this.shown) this.shown.push(...search(this.lines, this.needle, from));
    this.soon();
  }

  filter(needle) {
    this.needle = needle;
    this.shown = needle ? search(this.lines, needle) : null;
    this.drawn = "";
    this.soon();
  }

  follow(on) {
    this.following = on;
    this.onFollow(on);
    this.soon();
  }

  count() {
    return this.shown ? this.shown.length : this.lines.length;
  }

  scrolled() {
    const atEnd = this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - 4;
    // Who scrolls up wants to read; who scrolls to the end wants to follow.
    if (!this.own && atEnd !== this.following) this.follow(atEnd);
    this.own = false;
    this.soon();
  }

  soon() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.lineHeight) {
      this.lineHeight = parseFloat(getComputedStyle(this.box).lineHeight) || 20;
    }
    const total = this.count();
    this.sizer.style.height = total * this.lineHeight + "px";
    if (this.following) {
      const top = this.box.scrollHeight - this.box.clientHeight;
      if (Math.abs(this.box.scrollTop - top) > 1) {
        this.own = true;
        this.box.scrollTop = top;
      }
    }
    const { first, last } = view(this.box.scrollTop, this.box.clientHeight, this.lineHeight, total);
    const key = `${first}-${last}-${this.needle}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const rows = [];
    for (let i = first; i < last; i++) rows.push(this.row(this.shown ? this.shown[i] : i));
    this.window.style.transform = `translateY(${first * this.lineHeight}px)`;
    this.window.replaceChildren(...rows);
  }

  row(n) {
    const row = el("div", { class: "line", "data-n": n + 1 });
    for (const p of pieces(this.lines[n])) {
      if (!p.cls && !p.color) {
        row.append(p.text);
        continue;
      }
      const span = el("span", { class: p.cls }, p.text);
      if (p.color) span.style.color = p.color;
      row.append(span);
    }
    return row;
  }
}
