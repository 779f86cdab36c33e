// The hub's API. A failed call throws the hub's error: {code, message, hint…}.

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw { code: "unavailable", message: "The hub cannot be reached.", hint: "Look at your connection and try again." };
  }
  if (response.status === 204) return null;
  let data;
  try {
    data = await response.json();
  } catch {
    throw { code: "internal", message: `The hub answered ${response.status} without saying more.`, hint: "Try again in a minute." };
  }
  if (!response.ok) throw data;
  return data;
}
