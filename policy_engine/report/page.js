"use strict";
const root = document.documentElement, tip = document.getElementById("tip"), controls = document.getElementById("controls");
const rules = [...document.querySelectorAll(".legend tr.pick")].map((row) => row.querySelector("code").textContent);
const lines = {};
for (const span of document.querySelectorAll(".policy .rule")) {
  const item = span.closest("li");
  const where = `${item.closest("section").querySelector("h2").textContent}:${[...item.parentNode.children].indexOf(item) + 1}`;
  for (const index of span.dataset.rules.split(" ")) lines[index] ??= where;
}
const why = JSON.parse(document.getElementById("why").textContent);
let pinned = null;

controls.addEventListener("change", () => {
  document.body.classList.toggle("by-rule", controls.elements.rules.checked);
  document.body.classList.toggle("edges", controls.elements.edges.checked);
  document.body.classList.toggle("fade", controls.elements.fade.checked);
  root.dataset.theme = controls.elements.theme.value;
});
controls.addEventListener("submit", (event) => event.preventDefault());

function show(token, at) {
  tip.replaceChildren(...token.dataset.tip.split("\n\n").map((block) => {
    const list = document.createElement("dl");
    for (const line of block.split("\n")) {
      const [key, value] = [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)];
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = key;
      text.textContent = key === "rule" ? `${Number(value) + 1} · ${rules[value]} (${lines[value]})` : value;
      list.append(term, text);
    }
    return list;
  }), ...(token.dataset.why ?? "").split(" ").filter(Boolean).map((number) => {
    // What each rule had to say: one line a rule, and below it the tests of its conditions with their values.
    const list = document.createElement("ul");
    for (const [depth, text] of why[number]) {
      const item = document.createElement("li");
      item.textContent = text;
      if (depth) item.className = "test";
      list.append(item);
    }
    return list;
  }));
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), gap = 14;
  const left = Math.min(at.x + gap, innerWidth - box.width - 6);
  const below = at.y + gap + box.height < innerHeight;
  tip.style.left = `${Math.max(6, left)}px`;
  tip.style.top = `${below ? at.y + gap : Math.max(6, at.y - gap - box.height)}px`;
  mark(/(?:^|\n)rule: (\d+)/.exec(token.dataset.tip)?.[1]);
}

function hide() {
  tip.hidden = true;
  mark(undefined);
}

function mark(rule) {
  for (const item of document.querySelectorAll(".policy .rule, .legend tr.pick"))
    item.classList.toggle("on", rule !== undefined && item.dataset.rules.split(" ").includes(rule));
}

function pin(token) {
  pinned?.classList.remove("pin");
  pinned = token === pinned ? null : token;
  if (pinned === null) return hide();
  pinned.classList.add("pin");
  pinned.scrollIntoView({ block: "nearest" });
  const box = pinned.getBoundingClientRect();
  show(pinned, { x: box.left, y: box.bottom });
}

function pick(row) {
  const on = row.classList.toggle("chosen");
  for (const other of document.querySelectorAll("tr.pick.chosen")) if (other !== row) other.classList.remove("chosen");
  document.body.classList.toggle("picked", on);
  for (const token of document.querySelectorAll("pre .t"))
    token.classList.toggle("on", on && token.classList.contains(`r${row.dataset.rules}`));
}

document.addEventListener("pointermove", (event) => {
  const token = event.target.closest?.("pre .t");
  if (token) show(token, { x: event.clientX, y: event.clientY });
  else if (pinned === null && !tip.hidden) hide();
});
document.addEventListener("click", (event) => {
  const token = event.target.closest("pre .t"), row = event.target.closest("tr.pick");
  if (token) pin(token);
  else if (row) pick(row);
});
document.addEventListener("keydown", (event) => {
  const row = event.target.closest?.("tr.pick");
  if (row && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    return pick(row);
  }
  if (pinned === null) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === "Escape") return pin(pinned);
  if (step === undefined) return;
  event.preventDefault();
  const tokens = [...document.querySelectorAll("pre .t")];
  const next = tokens[tokens.indexOf(pinned) + step];
  if (next) pin(next);
});
