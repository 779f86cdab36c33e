// Addresses the pages go to.

// sessionURL is where to go when a session is ready. A path that would lead
// out of the session is left out: the token must not follow it.
export function sessionURL(base, path, token) {
  const home = new URL(base, globalThis.location?.href);
  let url = home;
  try {
    url = new URL(home.href + (path || "").replace(/^\/+/, ""));
  } catch {
    url = home;
  }
  if (url.origin !== home.origin || !url.pathname.startsWith(home.pathname)) url = new URL(home.href);
  if (token) url.search += (url.search ? "&" : "?") + "token=" + encodeURIComponent(token);
  return url.href;
}

// launchKey is where a tab remembers its launch of a link.
export const launchKey = (spec, path) => `binnacle:launch:${spec}?${path}`;

// launchID reads "#launch=<id>".
export function launchID(fragment) {
  const m = /^#launch=([a-z0-9]{1,63})$/.exec(fragment);
  return m ? m[1] : "";
}
