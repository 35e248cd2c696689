"use strict";
// Tokens under the pointer: runs become elements of single tokens where they are looked at, and a tip says what decided
// them. Listens to the whole document, since the live page replaces rows as one types.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const known = new WeakMap();
  let pinned = null;

  function facts(node) {
    const block = node.closest(".rows").querySelector(".facts");
    if (!known.has(block)) known.set(block, JSON.parse(block.textContent));
    return known.get(block);
  }

  function fill(node, text) {
    for (const piece of text.split(/(↵(?=\n))/)) {
      if (piece === "↵") node.append(Object.assign(document.createElement("u"), { textContent: piece }));
      else if (piece) node.append(piece);
    }
  }

  // `17 2.312 6.99,4`: the first token's number, then length and ids of each cell.
  function split(run) {
    if (run.dataset.d === undefined) return;
    const [first, ...cells] = run.dataset.d.split(" ");
    delete run.dataset.d;
    let at = 0, index = Number(first);
    if (cells[0].startsWith("0.")) {
      Object.assign(run.dataset, { whole: "", token: index, ids: cells[0].slice(2) });
      return;
    }
    const text = run.textContent;
    run.replaceChildren(...cells.map((cell) => {
      const [length, ids] = cell.split("."), made = document.createElement("b");
      Object.assign(made.dataset, { token: index, ids });
      index += ids.split(",").length;
      fill(made, text.slice(at, at += Number(length)));
      return made;
    }));
  }

  function tokenAt(target, x, y) {
    const run = target.closest?.(".pe pre .t");
    if (!run) return null;
    if (run.dataset.d !== undefined) {
      split(run);
      target = x === undefined ? run : document.elementFromPoint(x, y) ?? run;
    }
    if (run.dataset.whole !== undefined) return run;
    const token = target.closest?.("[data-token]");
    return token && run.contains(token) ? token : x === undefined ? run.firstElementChild : null;
  }

  function tipBox() {
    return document.getElementById("tip") ?? document.body.appendChild(
      Object.assign(document.createElement("div"), { id: "tip", className: "pe", role: "tooltip", hidden: true }));
  }

  function show(token, at) {
    const tip = tipBox(), run = token.closest(".t"), all = facts(run);
    const [decision, reason, rule, part, source, whys] = all.kinds[run.dataset.k];
    const text = [...token.childNodes].map((node) => node.textContent).join("");
    const turn = run.closest(".turn").querySelector("h3").firstChild.textContent;
    const list = document.createElement("dl");
    for (const [key, value] of [
      ["token", `${token.dataset.token} · id ${token.dataset.ids.replaceAll(",", ", ")} · “${text.replaceAll("\n", "")}”`],
      ["decision", decision], ["reason", reason],
      ["rule", rule === null ? "" : `${rule + 1} · ${all.rules[rule][0]} (${all.rules[rule][1]})`],
      ["turn", turn], ["part", `${part} – ${all.parts[part]}`], ["source", source],
    ]) {
      if (!value) continue;
      const term = document.createElement("dt"), said = document.createElement("dd");
      term.textContent = key;
      said.textContent = value;
      list.append(term, said);
    }
    // What each rule had to say: one line a rule, and below it the tests of its conditions with their values.
    tip.replaceChildren(list, ...whys.map((number) => {
      const items = document.createElement("ul");
      for (const [depth, line] of all.why[number]) {
        const item = document.createElement("li");
        item.textContent = line;
        if (depth) item.className = "test";
        items.append(item);
      }
      return items;
    }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect(), gap = 14;
    const below = at.y + gap + box.height < innerHeight;
    tip.style.left = `${Math.max(6, Math.min(at.x + gap, innerWidth - box.width - 6))}px`;
    tip.style.top = `${below ? at.y + gap : Math.max(6, at.y - gap - box.height)}px`;
    mark(rule);
  }

  function hide() {
    tipBox().hidden = true;
    mark(null);
  }

  function mark(rule) {
    for (const item of document.querySelectorAll(".pe .policy .rule, .pe .legend tr.pick"))
      item.classList.toggle("on", rule !== null && item.dataset.rules.split(" ").includes(String(rule)));
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

  // A style sheet, not classes: rows that are replaced meanwhile keep to it.
  function pick(row) {
    const on = row.classList.toggle("chosen");
    for (const other of document.querySelectorAll("tr.pick.chosen")) if (other !== row) other.classList.remove("chosen");
    const sheet = document.getElementById("picked-rule") ?? document.head.appendChild(
      Object.assign(document.createElement("style"), { id: "picked-rule" }));
    sheet.textContent = on ? `.pe pre .t:not(.r${Number(row.dataset.rules)}) { opacity: .2; }` : "";
  }

  function step(direction) {
    const sibling = direction > 0 ? pinned.nextElementSibling : pinned.previousElementSibling;
    if (sibling?.dataset.token !== undefined && sibling.tagName === "B") return pin(sibling);
    const runs = [...pinned.closest(".rows").querySelectorAll("pre .t")];
    const run = runs[runs.indexOf(pinned.closest(".t")) + direction];
    if (!run) return;
    if (run.classList.contains("middle")) run.previousElementSibling.classList.add("open");
    split(run);
    pin(run.dataset.whole !== undefined ? run : direction > 0 ? run.firstElementChild : run.lastElementChild);
  }

  document.addEventListener("pointermove", (event) => {
    const token = tokenAt(event.target, event.clientX, event.clientY);
    if (pinned !== null && !pinned.isConnected) pinned = null;
    if (token) show(token, { x: event.clientX, y: event.clientY });
    else if (pinned === null) hide();
  });
  document.addEventListener("click", (event) => {
    const more = event.target.closest?.(".pe .more"), row = event.target.closest?.(".pe tr.pick");
    if (more) return void more.classList.add("open");
    if (row) return pick(row);
    const token = tokenAt(event.target, event.clientX, event.clientY);
    if (token) pin(token);
  });
  document.addEventListener("keydown", (event) => {
    const row = event.target.closest?.(".pe tr.pick");
    if (row && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      return pick(row);
    }
    if (pinned === null || !pinned.isConnected || event.target.closest?.("input, textarea, select, [contenteditable=true]"))
      return;
    const direction = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") return pin(pinned);
    if (direction === undefined) return;
    event.preventDefault();
    step(direction);
  });

  // Edges of tokens need their elements: those of the rows that are in sight.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries)
      if (entry.isIntersecting) for (const run of entry.target.querySelectorAll(".t[data-d]")) split(run);
  }, { rootMargin: "400px" });
  window.policyEngineEdges = (on) => {
    root.classList.toggle("edges", on);
    seen.disconnect();
    if (on) for (const turn of document.querySelectorAll(".pe .turn")) seen.observe(turn);
  };
})();
