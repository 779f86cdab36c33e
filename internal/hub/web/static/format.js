// Times as people read them.

// duration of some milliseconds: "0.4 s", "12 s", "3 min 05 s".
export function duration(ms) {
  if (!(ms >= 0)) return "";
  if (ms < 1000) return (ms / 1000).toFixed(ms < 100 ? 2 : 1) + " s";
  if (ms < 9950) return (ms / 1000).toFixed(1) + " s";
  const s = Math.round(ms / 1000);
  if (s < 60) return s + " s";
  return Math.floor(s / 60) + " min " + String(s % 60).padStart(2, "0") + " s";
}

// left is the time until something ends, rounded so that it does not flicker.
export function left(ms) {
  if (!(ms > 0)) return "now";
  const s = Math.floor(ms / 1000);
  if (s < 60) return s + " s";
  const min = Math.floor(s / 60);
  if (min < 10) return min + " min " + String(s % 60).padStart(2, "0") + " s";
  if (min < 60) return min + " min";
  const h = Math.floor(min / 60);
  if (h < 48) return h + " h " + String(min % 60).padStart(2, "0") + " min";
  return Math.floor(h / 24) + " days";
}
