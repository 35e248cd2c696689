// The live page's own part: what Gradio's events ask of the browser.
window.policyEnginePlay = {
  colour(by) { document.documentElement.dataset.by = by; },
  edges(on) { window.policyEngineEdges(on); },
  replaced() { if (document.documentElement.classList.contains("edges")) window.policyEngineEdges(true); },
  // The link opens with this policy and row; it is the page's own address from now on, and copied where that is allowed.
  link(query) {
    const address = `${location.origin}${location.pathname}?${query}`;
    history.replaceState(null, "", address);
    navigator.clipboard?.writeText(address).catch(() => {});
    return address;
  },
  save(text, name, type) {
    const made = document.createElement("a");
    made.href = URL.createObjectURL(new Blob([text], { type }));
    made.download = name;
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 10_000);
  },
  savePolicy(text) { this.save(text, "my.policy", "text/plain"); },
  savePage(text) { if (text) this.save(text, "masked.html", "text/html"); },
};
