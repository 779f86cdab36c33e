// A line of a build log, with its terminal colours, as pieces of plain text.
// Nothing here makes HTML: the pieces are put into text nodes.

const names = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

// CSI, OSC (ended by BEL or ST), other two-character escapes, stray controls.
// eslint-disable-next-line no-control-regex
const escape = /\x1b\[([0-9;:]*)([@-~])|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|[\u202a-\u202e\u2066-\u2069]/g;

// lastWritten is what a terminal would show of a line with carriage returns.
export function lastWritten(line) {
  const parts = line.split("\r").filter((p) => p !== "");
  return parts.length ? parts[parts.length - 1] : "";
}

// strip is the line without colours, for searching.
export function strip(line) {
  return lastWritten(line).replace(escape, "");
}

// pieces parts a line: [{text, cls, color}], cls names classes of the style
// sheet, color is a CSS colour for what has no class.
export function pieces(line) {
  line = lastWritten(line);
  const out = [];
  const style = { bold: false, dim: false, italic: false, underline: false, fg: "", bg: "", color: "" };
  let last = 0;
  const push = (text) => {
    if (text === "") return;
    const cls = ["bold", "dim", "italic", "underline"].filter((k) => style[k]).map((k) => "a-" + k);
    if (style.fg) cls.push("f-" + style.fg);
    if (style.bg) cls.push("b-" + style.bg);
    const prev = out[out.length - 1];
    const piece = { text, cls: cls.join(" "), color: style.color };
    if (prev && prev.cls === piece.cls && prev.color === piece.color) prev.text += text;
    else out.push(piece);
  };
  for (const m of line.matchAll(escape)) {
    push(line.slice(last, m.index));
    last = m.index + m[0].length;
    if (m[2] === "m") select(style, m[1]);
  }
  push(line.slice(last));
  return out;
}

function select(style, params) {
  const codes = params.split(/[;:]/).map((p) => (p === "" ? 0 : Number(p)));
  for (let i = 0; i < codes.length; i++) {
    const c = codes[i];
    if (c === 0) Object.assign(style, { bold: false, dim: false, italic: false, underline: false, fg: "", bg: "", color: "" });
    else if (c === 1) style.bold = true;
    else if (c === 2) style.dim = true;
    else if (c === 3) style.italic = true;
    else if (c === 4) style.underline = true;
    else if (c === 22) style.bold = style.dim = false;
    else if (c === 23) style.italic = false;
    else if (c === 24) style.underline = false;
    else if (c >= 30 && c <= 37) foreground(style, names[c - 30]);
    else if (c >= 90 && c <= 97) foreground(style, "bright-" + names[c - 90]);
    else if (c === 39) foreground(style, "");
    else if (c >= 40 && c <= 47) style.bg = names[c - 40];
    else if (c >= 100 && c <= 107) style.bg = "bright-" + names[c - 100];
    else if (c === 49) style.bg = "";
    else if (c === 38 || c === 48) i += extended(style, codes, i);
  }
}

function foreground(style, name) {
  style.fg = name;
  style.color = "";
}

// extended reads 38;5;n and 38;2;r;g;b; it returns how many codes it took.
function extended(style, codes, i) {
  const text = codes[i] === 38;
  if (codes[i + 1] === 5) {
    const n = codes[i + 2];
    if (n < 16) {
      const name = (n > 7 ? "bright-" : "") + names[n % 8];
      if (text) foreground(style, name);
      else style.bg = name;
    } else if (text && n < 256) {
      foreground(style, "");
      style.color = indexed(n);
    }
    return 2;
  }
  if (codes[i + 1] === 2) {
    const rgb = codes.slice(i + 2, i + 5);
    if (text && rgb.length === 3 && rgb.every((v) => v >= 0 && v < 256)) {
      foreground(style, "");
      style.color = `rgb(${rgb.join(" ")})`;
    }
    return 4;
  }
  return 0;
}

function indexed(n) {
  if (n >= 232) {
    const v = 8 + (n - 232) * 10;
    return `rgb(${v} ${v} ${v})`;
  }
  const level = (k) => (k === 0 ? 0 : 55 + k * 40);
  n -= 16;
  return `rgb(${level(Math.floor(n / 36))} ${level(Math.floor(n / 6) % 6)} ${level(n % 6)})`;
}
