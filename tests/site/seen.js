() => {
  const article = document.querySelector('article'), text = [];
  const walk = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) if (!walk.currentNode.parentElement.closest('pre, code, script, style, svg')) text.push(walk.currentNode.data);
  const plain = h => { const c = h.cloneNode(true); c.querySelectorAll('.headerlink').forEach(e => e.remove()); return c.textContent.trim().replace(/\s+/g, ' '); };
  return {
    text: text.join(' '),
    headings: [...article.querySelectorAll('h1,h2,h3,h4,h5,h6')].filter(h => h.getClientRects().length).map(plain),
    broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
    wide: document.documentElement.scrollWidth - window.innerWidth,
  };
}
