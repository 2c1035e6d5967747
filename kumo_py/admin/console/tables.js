// The tables of the page: each shows a list that the overview tells, and keeps its rows from one look to the next.

import { button, element, find, reconcile, setAttribute, setText } from "./dom.js";
import { ago, compact, count, duration, rate } from "./format.js";

function row(cells, show) {
  const made = element("tr", {}, ...cells);
  made.show = show;
  return made;
}

// A number with a bar behind it that shows its share of `most`.
class Bar {
  #text = document.createTextNode("");
  #fill = element("span", { class: "fill" });

  constructor() {
    this.cell = element("td", { class: "number barred" }, this.#fill, this.#text);
  }

  show(value, most) {
    setText(this.#text, count(value));
    this.#fill.style.inlineSize = `calc(${most > 0 ? value / most : 0} * (100% - 1.5rem))`;
  }
}

class LastError {
  #when = element("span", { class: "muted" });
  #text = document.createTextNode("");
  #both = element("div", { class: "clamp" }, this.#when, this.#text);
  cell = element("td", { class: "trouble" }, this.#both);

  show(error, now) {
    setText(this.#when, error ? `${ago(error.when, now)} · ` : "");
    setText(this.#text, error ? error.text : "");
    setAttribute(this.#both, "title", error ? error.text : null);
  }
}

class State {
  #badge = element("span", { class: "badge" });
  #reason = element("div", { class: "clamp muted small" });
  cell = element("td", { class: "status" }, this.#badge, this.#reason);

  // `otherwise` is the word for what is not suspended; `note` stands below it.
  show(suspended, otherwise, note = "") {
    const word = suspended === null ? otherwise : "suspended";
    this.#badge.dataset.kind = word;
    setText(this.#badge, word);
    setText(this.#reason, [suspended, note].filter(Boolean).join("; "));
    setAttribute(this.#reason, "title", suspended);
  }
}

const heldNote = (queue) => (queue.held && queue.held < queue.messages ? `${count(queue.held)} held` : "");

function shown(table, rows, text) {
  const nothing = find(".nothing", table.parentElement);
  nothing.hidden = rows > 0;
  table.hidden = rows === 0;
  setText(nothing, text);
}

const LOOK_BACK = 10; // seconds

// How fast counters of the things in a list grow, over the last few seconds.
export class Growth {
  #looks = [];

  look(items, keyOf, time) {
    if (this.#looks.at(-1)?.time >= time) this.#looks = [];
    this.#looks = this.#looks.filter((look) => look.time >= time - LOOK_BACK);
    this.#looks.push({ time, seen: new Map(items.map((item) => [keyOf(item), item])) });
  }

  // Per second; null if it is not known yet.
  of(key, name) {
    const last = this.#looks.at(-1);
    const first = this.#looks.find((look) => look.seen.has(key));
    if (first === last) return null;
    return Math.max(0, last.seen.get(key)[name] - first.seen.get(key)[name]) / (last.time - first.time);
  }
}

// `open(queue)` is called with what was clicked.
export function showScheduled(table, queues, context, open) {
  const most = Math.max(0, ...queues.map((queue) => queue.messages));
  const make = () => scheduledRow(open);
  reconcile(find("tbody", table), queues, (queue) => queue.name, make, (queue) => [queue, most, context.now]);
  const text = context.match ? "No scheduled queue has this in its name." : "No scheduled queues: nothing waits.";
  shown(table, queues.length, text);
}

function scheduledRow(open) {
  let queue = null; // as it was shown last
  const domain = element("strong");
  const via = element("span", { class: "muted" });
  const chips = element("span", { class: "chips" });
  const name = button("", () => open(queue), { class: "name" });
  name.append(domain, via, chips);
  const bar = new Bar();
  const oldest = element("td", { class: "number" });
  const error = new LastError();
  const state = new State();
  const cells = [element("th", { scope: "row" }, name), bar.cell, oldest, error.cell, state.cell];
  return row(cells, ([now, most, time]) => {
    queue = now;
    setText(domain, queue.domain || queue.name);
    setText(via, queue.routing_domain === null ? "" : ` via ${queue.routing_domain}`);
    const labels = [["tenant", queue.tenant], ["campaign", queue.campaign]].filter(([, value]) => value);
    reconcile(chips, labels, ([kind]) => kind, ([kind]) => {
      const chip = element("span", { class: `chip ${kind}` });
      chip.show = ([, value]) => setText(chip, value);
      return chip;
    });
    bar.show(queue.messages, most);
    setText(oldest, queue.oldest === null ? "" : duration(queue.oldest));
    error.show(queue.last_error, time);
    const held = queue.held > 0 && queue.held === queue.messages;
    state.show(queue.suspended, held ? "held" : queue.messages ? "waiting" : "empty", heldNote(queue));
  });
}

export function showReady(table, queues, context, growth, open) {
  growth.look(queues, (queue) => queue.name, context.time);
  const most = Math.max(0, ...queues.map((queue) => queue.messages));
  const make = () => readyRow(growth, open);
  reconcile(find("tbody", table), queues, (queue) => queue.name, make, (queue) => [queue, most, context.now]);
  const text = context.match ? "No ready queue has this in its name." : "No ready queues: nothing was sent lately.";
  shown(table, queues.length, text);
}

function readyRow(growth, open) {
  let queue = null; // as it was shown last
  const site = element("strong");
  const details = element("span", { class: "muted" });
  const name = button("", () => open(queue), { class: "name" });
  name.append(site, details);
  const bar = new Bar();
  const connections = element("td", { class: "number" });
  const rates = ["delivered", "transfailed", "failed"].map((kind) => [kind, element("td", { class: "number" })]);
  const error = new LastError();
  const state = new State();
  const numbers = [bar.cell, connections, ...rates.map(([, cell]) => cell)];
  return row([element("th", { scope: "row" }, name), ...numbers, error.cell, state.cell], ([now, most, time]) => {
    queue = now;
    setText(site, queue.site);
    setText(details, `from ${queue.source} · ${queue.protocol}${queue.provider ? ` · ${queue.provider}` : ""}`);
    bar.show(queue.messages, most);
    setText(connections, `${count(queue.connections)} / ${compact(queue.connection_limit)}`);
    for (const [kind, cell] of rates) setText(cell, rate(growth.of(queue.name, kind)));
    error.show(queue.last_error, time);
    state.show(queue.suspended, queue.connections ? "sending" : queue.messages ? "waiting" : "idle");
  });
}

// `choose(tenant)` is called with the one that was clicked.
export function showTenants(table, tenants, choose) {
  const most = Math.max(0, ...tenants.map((one) => one.messages));
  reconcile(find("tbody", table), tenants, (one) => one.tenant, (one) => {
    const name = button(one.tenant, () => choose(one.tenant), { class: "name" });
    const bar = new Bar();
    return row([element("th", { scope: "row" }, name), bar.cell], ({ messages, most }) => bar.show(messages, most));
  }, (one) => ({ ...one, most }));
  shown(table, tenants.length, "No queue belongs to a tenant.");
}

export function showSites(table, sites, context, growth, choose) {
  growth.look(sites, (one) => one.site, context.time);
  const most = Math.max(0, ...sites.map((one) => one.messages));
  reconcile(find("tbody", table), sites, (one) => one.site, (one) => {
    const name = button(one.site, () => choose(one.site), { class: "name" });
    const bar = new Bar();
    const connections = element("td", { class: "number" });
    const delivered = element("td", { class: "number" });
    return row([element("th", { scope: "row" }, name), bar.cell, connections, delivered], ({ one: now, most }) => {
      bar.show(now.messages, most);
      setText(connections, count(now.connections));
      setText(delivered, rate(growth.of(now.site, "delivered")));
    });
  }, (one) => ({ one, most }));
  shown(table, sites.length, "Nothing was sent lately.");
}

const KINDS = { suspend: "Suspended", "suspend-ready-q": "Suspended", bounce: "Bounced" };

// Which queues a rule is about, in words.
export function scope(rule) {
  if (rule.name !== null) return rule.name;
  if (rule.queue_count > 0) {
    const more = rule.queue_count - rule.queue_names.length;
    return rule.queue_names.join(", ") + (more > 0 ? ` and ${count(more)} more` : "");
  }
  const criteria = ["campaign", "tenant", "domain", "routing_domain"].filter((name) => rule[name] !== null);
  if (!criteria.length) return "all scheduled queues";
  return criteria.map((name) => `${name.replace("_", " ")} ${rule[name]}`).join(", ");
}

// `end(rule)` is called when somebody wants it to end; null without actions.
export function showRules(table, rules, end) {
  reconcile(find("tbody", table), rules, (rule) => rule.id, (rule) => {
    const badge = element("span", { class: "badge", data: { kind: rule.kind === "bounce" ? "bounced" : "suspended" } });
    badge.textContent = KINDS[rule.kind];
    const what = element("span", { class: "what" }, scope(rule));
    const bounced = element("span", { class: "muted" });
    const left = element("td", { class: "number" });
    const action = element("td", { class: "actions-only" });
    if (end !== null) action.append(button("End", () => end(rule), { "aria-label": `End: ${scope(rule)}` }));
    const cells = [element("td", {}, badge, " ", what, " ", bounced), element("td", {}, rule.reason), left, action];
    return row(cells, (now) => {
      setText(left, duration(now.left));
      setText(bounced, now.bounced ? `${count(now.bounced)} so far` : "");
    });
  });
  shown(table, rules.length, "Nothing is suspended or bounced by an operator.");
}
