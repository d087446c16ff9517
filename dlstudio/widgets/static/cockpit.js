// The trials of a search as a table with what can be done to each, and the asking for news while the search goes on.

const TICK_MS = 500, RETRY_MS = 30000;

/** Make an element; text is always set as text, never as HTML. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export default {
  render({ model, el }) {
    const client = Math.random().toString(36).slice(2);
    let seen = -1, timer = 0, askedAt = 0, over = false, closed = false, shown = true, news = null;
    const title = h("strong", {}, "Trials"), body = h("tbody"), heads = h("tr"), note = h("p", { class: "dls-said", role: "status" });
    const order = h("select", { class: "dls-order", "aria-label": "Order of the trials", onchange: () => draw() },
      h("option", { value: "newest" }, "Newest first"), h("option", { value: "best" }, "Best first"));
    const root = h("div", { class: "dls-trials", role: "region", "aria-label": "Trials", "data-ticks": 0 },
      h("div", { class: "dls-trials-head" }, title, order),
      h("div", { class: "dls-trials-body", tabindex: 0 }, h("table", {}, h("thead", {}, heads), body)), note);
    el.append(root);

    const send = (content) => {
      try {
        model.send({ client, ...content });
      } catch {
        over = true;
        note.textContent = "This view has lost its kernel, which was restarted or shut down. The search itself goes on: run the cell again to reattach.";
      }
    };
    const act = (label, type, number, title) => h("button", { type: "button", class: `dls-act dls-act-${type}`, title, onclick: () => send({ type, number }) }, label);
    const draw = () => {
      if (!news) return;
      const plain = Boolean(news.title);  // runs of a fixed list, which nobody steers one by one
      if (plain) title.textContent = news.title;
      order.hidden = plain;
      heads.replaceChildren(...news.columns.map((name) => h("th", { scope: "col" }, name)), h("th", { scope: "col" }, h("span", { class: "dls-hidden" }, "What can be done")));
      const rank = (row) => (row.rank === null ? Infinity : row.rank);
      const rows = [...news.rows].sort(order.value === "best" ? (a, b) => rank(a) - rank(b) || b.number - a.number : (a, b) => (plain ? a.number - b.number : b.number - a.number));
      // The buttons under a pointer or with the focus stay the same ones.
      const there = new Map([...body.children].map((line) => [line.dataset.told, line]));
      body.replaceChildren(...rows.map((row) => {
        const told = JSON.stringify(row);
        return there.get(told) || h("tr", { "data-told": told, "data-number": row.number, "data-state": row.state, class: row.best ? "dls-best" : "" },
          ...row.cells.map((text, at) => (at === 1 ? h("td", { title: row.reason }, h("span", { class: "dls-state", "data-state": row.state }, text)) : h("td", {}, text))),
          h("td", { class: "dls-acts" }, plain ? null : act("Use", "use", row.number, "Put these values into the form"),
            row.state === "running" && news.live ? act("Stop", "stop", row.number, "Stop this trial; the search goes on") : null,
            row.state === "running" && news.live && !row.kept ? act("Keep", "keep", row.number, "Never prune this trial") : null));
      }));
      const cut = news.n > news.rows.length ? `The newest and the best ${news.rows.length.toLocaleString()} of ${news.n.toLocaleString()} trials are listed.` : "";
      note.textContent = cut;
    };
    const ask = () => {
      clearTimeout(timer);
      if (closed || over || document.hidden || !shown) return;
      timer = setTimeout(ask, 1000);
      if (askedAt && performance.now() - askedAt < RETRY_MS) return;
      askedAt = performance.now();
      send({ type: "tick", seen });
    };
    const receive = (content) => {
      if (content.client !== client) return;
      askedAt = 0;
      root.dataset.ticks = Number(root.dataset.ticks) + 1;
      note.setAttribute("role", content.fault ? "alert" : "status");
      if (content.fault) { note.textContent = content.fault; seen = -1; }  // what comes next takes it away again
      if (content.news) { news = content.news; seen = content.version; draw(); }
      over = content.over;
      root.dataset.over = over;
      clearTimeout(timer);
      if (!over) timer = setTimeout(ask, TICK_MS);
    };
    const wake = () => ask();
    const seeing = new IntersectionObserver((entries) => { shown = entries.at(-1).isIntersecting; ask(); });
    // The whole cockpit counts, of which the table is the end.
    setTimeout(() => seeing.observe(root.closest(".dls-cockpit") || root), 0);
    model.on("msg:custom", receive);
    document.addEventListener("visibilitychange", wake);
    ask();
    return () => {
      closed = true;
      clearTimeout(timer);
      seeing.disconnect();
      model.off("msg:custom", receive);
      document.removeEventListener("visibilitychange", wake);
    };
  },
};
