(() => {
  const root = document.documentElement, controls = document.getElementById("controls"), finder = document.getElementById("finder");
  controls.addEventListener("change", () => {
    const { by, edges, fade, theme } = controls.elements;
    root.dataset.by = by.value;
    root.classList.toggle("fade", fade.checked);
    window.policyEngineEdges(edges.checked);
    root.dataset.theme = theme.value;
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  if (!finder) return;

  const list = document.querySelector(".rows"), articles = [...list.querySelectorAll("article")];
  let low = null, high = null;
  function arrange() {
    const { sort, flag, text } = finder.elements, words = text.value.toLowerCase();
    const order = { row: 1, share: -1, tokens: -1 }[sort.value];
    list.append(...articles.slice().sort((a, b) => order * (Number(a.dataset[sort.value]) - Number(b.dataset[sort.value]))));
    let shown = 0;
    for (const article of articles) {
      const { share, flags } = article.dataset;
      const inBin = low === null || (!flags.includes("failed") && (high === 0 ? Number(share) === 0 : share > low && share <= high));
      article.hidden = !inBin || (flag.value && !flags.split(" ").includes(flag.value)) ||
        (words && !article.textContent.replaceAll("↵", "").toLowerCase().includes(words));
      shown += !article.hidden;
    }
    finder.querySelector("output").textContent = shown === articles.length ? "" : `${shown} of ${articles.length} rows`;
  }
  finder.addEventListener("submit", (event) => event.preventDefault());
  finder.addEventListener("input", (event) => {
    if (event.target.name === "jump") {
      if (event.target.value) location.hash = `row${event.target.value}`;
      event.target.value = "";
    } else arrange();
  });
  // A bar of the histogram shows its rows, and a second click all again.
  for (const bar of document.querySelectorAll(".histogram li")) bar.addEventListener("click", () => {
    const again = low !== null && Number(bar.dataset.low) === low && Number(bar.dataset.high) === high;
    [low, high] = again ? [null, null] : [Number(bar.dataset.low), Number(bar.dataset.high)];
    for (const other of document.querySelectorAll(".histogram li")) other.classList.toggle("chosen", !again && other === bar);
    arrange();
  });
  // A link to a row that a filter hides shows it.
  function linked() {
    const article = /^#row\d+$/.test(location.hash) && document.querySelector(location.hash);
    if (!article) return;
    article.hidden = false;
    article.scrollIntoView();
  }
  addEventListener("hashchange", linked);
  linked();
})();
