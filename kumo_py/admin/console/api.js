// The node's HTTP API. What goes wrong is an ApiError whose message is for people; status 0 means no answer at all.

const TIMEOUT = 20_000; // milliseconds

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(method, path, body) {
  const options = { method, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  let text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    throw new ApiError(0, "The node does not answer.");
  }
  if (!response.ok) throw new ApiError(response.status, text || `The node answers ${response.status}.`);
  if (!(response.headers.get("Content-Type") ?? "").startsWith("application/json")) return text;
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(response.status, "The answer cannot be read.");
  }
}

const withQuery = (path, query) => (query === undefined ? path : `${path}?${new URLSearchParams(query)}`);

export const get = (path, query) => request("GET", withQuery(path, query));
export const post = (path, body) => request("POST", path, body);
export const remove = (path, body) => request("DELETE", path, body);
