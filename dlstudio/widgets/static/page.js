// What every picture on a page shares: colours of a light and of a dark page, and one plotly.js, fetched from the kernel once.

const THEMES = {
  light: { ink: "#1b2733", muted: "#5b6b7a", line: "#e3e8ee", accent: "#0072b2", bad: "#d55e00", zero: "#9aa7b3",
    palette: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442"] },
  dark: { ink: "#e6ebf0", muted: "#a3b0bc", line: "#38424c", accent: "#56b4e9", bad: "#ff8f4d", zero: "#6b7885",
    palette: ["#56b4e9", "#ff8f4d", "#2fc79c", "#e39cc4", "#f2b134", "#2f94d3", "#e6ebf0", "#f0e442"] },
};

/** Whether the page around is dark: what JupyterLab says, else its ground. */
function darkPage() {
  const name = document.body.dataset.jpThemeLight;
  const ground = getComputedStyle(document.body).backgroundColor.match(/\d+(\.\d+)?/g) || [255, 255, 255];
  return name ? name === "false" : ground.length < 4 && ground.slice(0, 3).reduce((sum, part) => sum + Number(part), 0) < 300;
}

/** Calls back whenever the page may have changed its theme; returns what to disconnect. */
function onTheme(call) {
  const observer = new MutationObserver(call);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  return observer;
}

/** The shared plotly.js of this page; `ask` fetches its gzipped source, once. */
function plotly(ask) {
  if (!window.__dlstudioPlotly) {
    window.__dlstudioPlotly = ask().then(async (view) => {
      const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
      const source = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      const module = { exports: {} };
      // `define` and `require` are hidden, so that a loader on the page does not take the module.
      new Function("module", "exports", "define", "require", source)(module, module.exports);
      return module.exports;
    });
    window.__dlstudioPlotly.catch(() => { delete window.__dlstudioPlotly; });
  }
  return window.__dlstudioPlotly;
}
