// What an operator may do here, if the listener's console option allows it. Each action says what will happen and to
// how many messages, and is confirmed; what the node answers to it is shown.

import { post, remove } from "./api.js";
import { element, find } from "./dom.js";
import { messages } from "./format.js";
import { scope } from "./tables.js";

const dialog = find("#confirm");
const form = find("form", dialog);
const go = find(".go", dialog);
const failure = find("#confirm-error");

let run = null; // what is done when it is confirmed; may throw ApiError
let ready = () => true; // whether it may be

find(".cancel", dialog).addEventListener("click", () => dialog.close());
form.addEventListener("input", () => {
  go.disabled = !ready();
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!ready()) return;
  go.disabled = true;
  failure.textContent = "";
  try {
    await run();
    dialog.close();
  } catch (error) {
    failure.textContent = error.message;
  }
  go.disabled = !ready();
});

function confirm({ title, text, fields = [], label, danger = false, when = () => true, then }) {
  find("#confirm-title").textContent = title;
  find("#confirm-text").textContent = text;
  find("#confirm-fields").replaceChildren(...fields);
  failure.textContent = "";
  go.textContent = label;
  go.classList.toggle("danger", danger);
  ready = when;
  run = then;
  go.disabled = !ready();
  dialog.showModal();
}

const labelled = (text, control) => element("label", {}, element("span", {}, text), control);

const DURATIONS = [
  ["5 minutes", 300],
  ["30 minutes", 1800],
  ["2 hours", 7200],
  ["12 hours", 43200],
  ["3 days", 259200],
];

function durations() {
  const options = DURATIONS.map(([text, value]) => element("option", { value }, text));
  return element("select", { name: "duration" }, ...options);
}

const reasons = () => element("input", { name: "reason", required: true, maxlength: "200", autocomplete: "off" });

// Each takes what it is about, as the overview has it, and `done`, which is called when it has happened.

export function suspend(queue, done) {
  const [reason, lasts] = [reasons(), durations()];
  confirm({
    title: `Suspend ${queue.name}?`,
    text:
      `Nothing of this scheduled queue is tried until the time is over or you end it: ${messages(queue.messages)} ` +
      "now, and what comes in. Messages that become too old meanwhile expire.",
    fields: [labelled("Reason, for the log", reason), labelled("For", lasts)],
    label: "Suspend",
    when: () => reason.value.trim() !== "",
    then: async () => {
      const duration = `${lasts.value}s`;
      await post("/api/admin/suspend/v1", { queue_names: [queue.name], reason: reason.value.trim(), duration });
      done();
    },
  });
}

export function suspendReady(queue, done) {
  const [reason, lasts] = [reasons(), durations()];
  confirm({
    title: `Suspend ${queue.name}?`,
    text:
      "Nothing is sent from this source to this site until the time is over or you end it: " +
      `${messages(queue.messages)} now, and what is to go there. Other sources of the pool go on.`,
    fields: [labelled("Reason", reason), labelled("For", lasts)],
    label: "Suspend",
    when: () => reason.value.trim() !== "",
    then: async () => {
      const duration = `${lasts.value}s`;
      await post("/api/admin/suspend-ready-q/v1", { name: queue.name, reason: reason.value.trim(), duration });
      done();
    },
  });
}

// What becomes of the messages of a scheduled queue at once. `done` is called with what the node says of it.
const OPERATIONS = {
  flush: {
    title: (name) => `Try ${name} now?`,
    text: (number) =>
      `${number} of this queue will be tried now, whenever their next attempt is. Held and suspended ones stay.`,
    label: "Try now",
    result: "to be tried now",
  },
  hold: {
    title: (name) => `Hold the messages of ${name}?`,
    text: (number) =>
      `${number} of this queue will be kept until they are released: neither tried, nor expired. What comes in ` +
      "later is not held.",
    label: "Hold",
    result: "held",
  },
  release: {
    title: (name) => `Release the messages of ${name}?`,
    text: (_, held) => `${held} of this queue will no longer be held, and be tried now.`,
    label: "Release",
    result: "released",
  },
};

export function operate(kind, queue, done) {
  const { title, text, label, result } = OPERATIONS[kind];
  const reason = kind === "hold" ? reasons() : null;
  confirm({
    title: title(queue.name),
    text: text(messages(queue.messages), messages(queue.held)),
    fields: reason === null ? [] : [labelled("Reason", reason)],
    label,
    when: () => reason === null || reason.value.trim() !== "",
    then: async () => {
      const request = { queue_names: [queue.name] };
      if (reason !== null) request.reason = reason.value.trim();
      const state = await post(`/api/kumo-py/${kind}/v1`, request);
      if (state.error !== null) throw new Error(state.error);
      done(`${queue.name}: ${messages(state.changed)} ${result}${state.done ? "" : " so far; the rest follows"}.`);
    },
  });
}

export function bounce(queue, done) {
  const [reason, lasts] = [reasons(), durations()];
  const name = element("input", { name: "queue", required: true, autocomplete: "off", spellcheck: "false" });
  confirm({
    title: `Bounce ${queue.name}?`,
    text:
      `${messages(queue.messages)} of this queue will be given up, with a record in the log, and so will what comes ` +
      "into it until the time is over. They cannot be brought back.",
    fields: [
      labelled("Reason, for the log", reason),
      labelled("For", lasts),
      labelled(`Type the queue's name, ${queue.name}`, name),
    ],
    label: "Bounce",
    danger: true,
    when: () => reason.value.trim() !== "" && name.value === queue.name,
    then: async () => {
      const duration = `${lasts.value}s`;
      await post("/api/admin/bounce/v1", { queue_names: [queue.name], reason: reason.value.trim(), duration });
      done();
    },
  });
}

const PATHS = {
  suspend: "/api/admin/suspend/v1",
  "suspend-ready-q": "/api/admin/suspend-ready-q/v1",
  bounce: "/api/admin/bounce/v1",
};

export function end(rule, done) {
  const what = rule.kind === "bounce" ? "Messages are no longer bounced" : "Messages are tried again";
  confirm({
    title: rule.kind === "bounce" ? "End this bounce?" : "End this suspension?",
    text: `${what}: ${scope(rule)}. It was made for this reason: ${rule.reason}`,
    label: rule.kind === "bounce" ? "End the bounce" : "Resume",
    then: async () => {
      await remove(PATHS[rule.kind], { id: rule.id });
      done();
    },
  });
}
