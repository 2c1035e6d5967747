// The drawer with one queue: what is known of it, what may be done to it, and its messages.

import { get } from "./api.js";
import { button, describe, element, find } from "./dom.js";
import { age, ago, bytes, count, due, duration, messages } from "./format.js";

const MOST = 50; // messages listed
const LONGEST = 100_000; // characters of a message shown

const drawer = find("#detail");
const body = find("#detail-body");
let shown = null; // the queue in the drawer: answers about another one come too late

find(".close", drawer).addEventListener("click", () => drawer.close());
drawer.addEventListener("click", (event) => {
  if (event.target === drawer) drawer.close(); // beside it
});
drawer.addEventListener("close", () => {
  shown = null;
});

export function closeDrawer() {
  if (drawer.open) drawer.close();
}

// `queue` is as the overview has it, `actions` are buttons.
export function openScheduled(queue, now, actions) {
  const list = element("div", { class: "messages", "aria-live": "polite" });
  open(queue, now, actions, [
    ["Waiting", messages(queue.messages) + (queue.held ? `, ${count(queue.held)} of them held` : "")],
    ["Oldest", queue.oldest === null ? "–" : `${duration(queue.oldest)} old`],
    ["Tenant", queue.tenant],
    ["Campaign", queue.campaign],
    ["Routed via", queue.routing_domain],
  ]);
  body.append(element("h3", {}, "Messages"), list);
  listMessages(queue, list, now);
}

export function openReady(queue, now, actions) {
  open(queue, now, actions, [
    ["Ready to go", messages(queue.messages)],
    ["Connections", `${count(queue.connections)} of at most ${count(queue.connection_limit)}`],
    ["Delivered", count(queue.delivered)],
    ["Deferred", count(queue.transfailed)],
    ["Bounced", count(queue.failed)],
    ["Source", queue.source],
    ["Site", queue.site],
    ["Provider", queue.provider],
    ["Protocol", queue.protocol],
  ]);
}

function open(queue, now, actions, facts) {
  shown = queue.name;
  find("#detail-title").textContent = queue.name;
  const list = element("dl", { class: "facts" });
  const error = queue.last_error && `${queue.last_error.text} (${ago(queue.last_error.when, now)})`;
  const known = [...facts, ["Suspended", queue.suspended], ["Last error", error]];
  describe(list, known.filter(([, value]) => value !== null));
  body.replaceChildren(list);
  if (actions.length) body.append(element("div", { class: "buttons" }, ...actions));
  if (!drawer.open) drawer.showModal();
}

async function listMessages(queue, list, now) {
  list.replaceChildren(element("p", { class: "muted" }, "Asking the node…"));
  let answer;
  try {
    answer = await get("/api/kumo-py/messages/v1", { queue: queue.name, limit: MOST });
  } catch (error) {
    if (shown === queue.name) list.replaceChildren(element("p", { class: "error" }, error.message));
    return;
  }
  if (shown !== queue.name) return;
  if (!answer.messages.length) {
    list.replaceChildren(element("p", { class: "muted" }, "No message is here."));
    return;
  }
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, "From and to"),
    element("th", { scope: "col", class: "number" }, "Age"),
    element("th", { scope: "col", class: "number" }, "Attempts"),
    element("th", { scope: "col" }, "Next attempt"),
  );
  const rows = answer.messages.flatMap((message) => messageRows(message, now));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  list.replaceChildren(element("div", { class: "scroll" }, table));
  if (answer.next !== null) list.append(element("p", { class: "muted" }, `The ${MOST} oldest; there are more.`));
}

function next(message, now) {
  if (message.held !== null) return `held: ${message.held.reason}`;
  if (message.where === "scheduled") return message.due === null ? "now" : due(message.due, now);
  return message.where === "ready" ? "ready to go" : "being tried";
}

// A message's row, and the hidden one below with its content.
function messageRows(message, now) {
  const { id, recipients } = message;
  const to = recipients.slice(0, 3).join(", ") + (recipients.length > 3 ? ` and ${recipients.length - 3} more` : "");
  const content = element("td", { colspan: "4" });
  const below = element("tr", { class: "content", id: `content-${id}`, hidden: true }, content);
  const toggle = button("", () => {
    below.hidden = !below.hidden;
    toggle.setAttribute("aria-expanded", String(!below.hidden));
    if (!below.hidden && !content.hasChildNodes()) showContent(id, content);
  }, { class: "name", "aria-expanded": "false", "aria-controls": below.id });
  toggle.append(
    element("strong", {}, message.sender || "<>"),
    element("span", {}, ` → ${to}`),
    element("span", { class: "muted id" }, message.size === null ? id : `${id} · ${bytes(message.size)}`),
  );
  const row = element(
    "tr",
    {},
    element("th", { scope: "row" }, toggle),
    element("td", { class: "number" }, age(message.arrived, now)),
    element("td", { class: "number" }, count(message.attempts)),
    element("td", {}, next(message, now)),
  );
  return [row, below];
}

async function showContent(id, cell) {
  cell.replaceChildren(element("p", { class: "muted" }, "Asking the node…"));
  try {
    const { message } = await get("/api/admin/inspect-message/v1", { id, want_body: "true" });
    const text = message.data ?? "";
    const end = /\r?\n\r?\n/.exec(text);
    const head = end ? text.slice(0, end.index) : text;
    const rest = end ? text.slice(end.index + end[0].length) : "";
    cell.replaceChildren(
      element("h4", {}, "Headers"),
      element("pre", { tabindex: "0" }, cut(head)),
      element("h4", {}, "Body"),
      element("pre", { tabindex: "0" }, cut(rest)),
      element("h4", {}, "Metadata"),
      element("pre", { tabindex: "0" }, JSON.stringify(message.meta, null, 2)),
    );
  } catch (error) {
    cell.replaceChildren(element("p", { class: "error" }, error.message));
  }
}

function cut(text) {
  if (text.length <= LONGEST) return text;
  return `${text.slice(0, LONGEST)}\n… ${count(text.length - LONGEST)} characters more`;
}
