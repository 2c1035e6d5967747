// Draws the node's OpenAPI document. Text is set as text: nothing of the document, nor of an answer, is parsed as HTML.

const DOCUMENT = "/api-docs/openapi.json";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const main = document.getElementById("main");
const filter = document.getElementById("filter");

function resolve(api, schema) {
  if (!schema.$ref) return schema;
  return schema.$ref.split("/").slice(1).reduce((found, key) => found[key], api);
}

// "array of Recipient", "string or null"
function typeName(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf || schema.oneOf) return (schema.anyOf || schema.oneOf).map(typeName).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `array of ${schema.items ? typeName(schema.items) : "anything"}`;
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return `object of ${typeName(schema.additionalProperties)}`;
  }
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "anything";
  return schema.format ? `${type} (${schema.format})` : type;
}

function mentioned(schema) {
  if (schema.$ref) return [schema];
  const inner = [...(schema.anyOf || []), ...(schema.oneOf || [])];
  if (schema.items) inner.push(schema.items);
  if (typeof schema.additionalProperties === "object") inner.push(schema.additionalProperties);
  return inner.flatMap(mentioned);
}

// A table for the struct, and one for each that it mentions.
function structs(api, schema, seen = new Set()) {
  const tables = [];
  for (const one of mentioned(schema)) {
    if (seen.has(one.$ref)) continue;
    seen.add(one.$ref);
    const struct = resolve(api, one);
    const required = new Set(struct.required || []);
    const rows = Object.entries(struct.properties || {}).map(([name, field]) =>
      element("tr", {},
        element("th", {}, element("code", {}, required.has(name) ? `${name} *` : name)),
        element("td", { class: "muted" }, typeName(field)),
        element("td", {}, field.description || ""),
      ));
    tables.push(element("h3", {}, typeName(one)));
    if (struct.description) tables.push(element("p", { class: "muted" }, struct.description));
    tables.push(element("table", {}, ...rows));
    for (const field of Object.values(struct.properties || {})) tables.push(...structs(api, field, seen));
  }
  return tables;
}

function responses(api, operation) {
  const parts = [element("h3", {}, "Answers")];
  const rows = Object.entries(operation.responses).map(([status, response]) =>
    element("tr", {},
      element("th", {}, element("code", {}, status)),
      element("td", {}, response.description),
      element("td", { class: "muted" }, Object.entries(response.content || {})
        .map(([type, content]) => `${type}: ${typeName(content.schema)}`).join(", ")),
    ));
  parts.push(element("table", {}, ...rows));
  for (const content of Object.values(operation.responses["200"]?.content || {})) {
    parts.push(...structs(api, content.schema));
  }
  return parts;
}

// Sends the request, and shows what comes back.
function trial(path, method, operation, body) {
  const inputs = (operation.parameters || []).map((parameter) =>
    element("input", { name: parameter.name, placeholder: parameter.name, value: parameter.example || "" }));
  const text = body ? element("textarea", { spellcheck: "false", "aria-label": "Body" }) : null;
  if (text) text.value = JSON.stringify(body.example ?? {}, null, 2);
  const shown = element("pre", { hidden: "" });
  const form = element("form", {}, ...inputs, text, element("button", {}, `Send ${method.toUpperCase()}`), shown);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams(inputs.filter((input) => input.value).map((input) => [input.name, input.value]));
    shown.hidden = false;
    shown.textContent = "…";
    try {
      const response = await fetch(query.size ? `${path}?${query}` : path, {
        method: method.toUpperCase(),
        headers: text ? { "Content-Type": "application/json" } : {},
        body: text ? text.value : undefined,
      });
      let answer = await response.text();
      try {
        answer = JSON.stringify(JSON.parse(answer), null, 2);
      } catch {
        // no JSON
      }
      shown.textContent = `${response.status} ${response.statusText}\n\n${answer}`;
    } catch (error) {
      shown.textContent = String(error);
    }
  });
  return form;
}

function endpoint(api, path, method, operation) {
  const details = element("details", { "data-words": `${method} ${path} ${operation.summary}`.toLowerCase() },
    element("summary", {},
      element("span", { class: "method", "data-method": method }, method.toUpperCase()),
      path,
      element("span", { class: "what" }, operation.summary)));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    details.append(element("p", {}, operation.description));
    if (operation.parameters) {
      details.append(element("h3", {}, "Parameters"), element("table", {}, ...operation.parameters.map((parameter) =>
        element("tr", {},
          element("th", {}, element("code", {}, parameter.required ? `${parameter.name} *` : parameter.name)),
          element("td", { class: "muted" }, typeName(parameter.schema)),
          element("td", {}, parameter.description)))));
    }
    const body = operation.requestBody?.content["application/json"];
    if (body) details.append(...structs(api, body.schema));
    if (operation["x-websocket-request"]) {
      details.append(element("p", {}, "Over WebSocket, the client begins by sending:"),
        ...structs(api, operation["x-websocket-request"]));
    }
    details.append(...responses(api, operation));
    if (!operation["x-websocket-request"]) details.append(trial(path, method, operation, body));
  });
  return details;
}

function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of document.querySelectorAll("details")) {
    one.hidden = !words.every((word) => one.dataset.words.includes(word));
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = [...section.querySelectorAll("details")].every((one) => one.hidden);
  }
}

async function draw() {
  const api = await (await fetch(DOCUMENT)).json();
  document.getElementById("version").textContent = `${api.info.title} ${api.info.version}`;
  document.getElementById("about").textContent = api.info.description;
  for (const tag of api.tags) {
    const found = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods)
      .filter(([, operation]) => operation.tags.includes(tag.name))
      .map(([method, operation]) => endpoint(api, path, method, operation)));
    if (found.length) {
      main.append(element("section", {}, element("h2", {}, tag.name), element("p", { class: "muted" }, tag.description), ...found));
    }
  }
  filter.addEventListener("input", applyFilter);
}

draw().catch((error) => main.append(element("p", { role: "alert" }, `The description cannot be read: ${error}`)));
