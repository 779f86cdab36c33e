// What a launch page knows, and how an event changes it. No document here.

export const order = ["waiting", "resolving", "fetching", "building", "launching", "ready"];

export const words = {
  waiting: ["Queue", "Waiting for a place"],
  resolving: ["Find", "Finding the commit"],
  fetching: ["Fetch", "Fetching the repository"],
  building: ["Build", "Building the image"],
  launching: ["Start", "Starting your session"],
  ready: ["Ready", "Ready"],
  failed: ["Failed", "The launch failed"],
  canceled: ["Canceled", "The launch was canceled"],
};

export const isFinal = (phase) => phase === "ready" || phase === "failed" || phase === "canceled";

export function initial() {
  return { last: 0, phase: "", since: 0, times: {}, position: 0, image: "", error: null, notes: [], ended: false, problem: null };
}

// apply takes one event in; it returns the log lines it adds. An event that was
// already taken (a stream that began again) changes nothing.
export function apply(state, event) {
  if (event.kind === "problem") {
    state.problem = event.error || { message: "The connection to the launch broke." };
    return [];
  }
  if (event.id <= state.last) return [];
  state.last = event.id;
  state.problem = null;
  if (event.image) state.image = event.image;
  switch (event.kind) {
    case "phase":
      enter(state, event);
      break;
    case "queue":
      state.position = event.position || 0;
      break;
    case "note":
      state.notes.push(event.error || { message: event.message });
      break;
    case "log":
      return [event.message || ""];
    case "step":
      return event.message ? [event.message] : [];
    case "end":
      enter(state, event);
      state.error = event.error || null;
      state.ended = true;
      break;
  }
  return [];
}

function enter(state, event) {
  const at = Date.parse(event.time);
  if (state.phase && state.phase !== event.phase) {
    state.times[state.phase] = event.millis || Math.max(0, at - state.since);
  }
  if (state.phase !== event.phase) state.since = at;
  state.phase = event.phase;
  if (event.phase !== "waiting") state.position = 0;
}

// steps is what the row of phases shows: [{phase, label, mark, millis}], mark
// is one of done, now, skipped, failed and todo.
export function steps(state) {
  const at = state.phase;
  const stopped = at === "failed" || at === "canceled";
  const reached = order.reduce((max, p, i) => (p in state.times || p === at ? i : max), -1);
  return order.map((phase, i) => {
    let mark = "todo";
    if (phase === at) mark = phase === "ready" ? "done" : "now";
    else if (i < reached) mark = phase in state.times ? "done" : "skipped";
    else if (i === reached) mark = stopped ? "failed" : "done";
    return { phase, label: words[phase][0], mark, millis: state.times[phase] };
  });
}

// sentence is the state in words, for the status line.
export function sentence(state) {
  if (state.problem) return state.problem.message;
  if (state.phase === "waiting" && state.position > 0) {
    return state.position === 1 ? "You are next in the queue." : `You are number ${state.position} in the queue.`;
  }
  const w = words[state.phase];
  return w ? w[1] + (isFinal(state.phase) ? "." : "…") : "Asking for a launch…";
}

// place is where in the repository an error is: "requirements.txt, line 3".
export function place(error) {
  if (!error || !error.file) return "";
  return error.line ? `${error.file}, line ${error.line}` : error.file;
}
