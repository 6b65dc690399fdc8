// Sorting, filtering, copying and reading by hovering. Without it the page is whole, only still.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
  const boxes = all("#estimators input");
  const label = (at) => boxes[at] ? boxes[at].value : "";
  const shown = (at) => !boxes[at] || boxes[at].checked;

  // Estimators: one choice for all figures and tables.
  function filter() {
    for (const drawn of all("svg [data-estimator]")) drawn.classList.toggle("off", !shown(drawn.dataset.estimator));
    for (const row of all("tr[data-estimators]")) row.hidden = !row.dataset.estimators.split(" ").every(shown);
    const count = boxes.filter((box) => box.checked).length;
    document.querySelector("#shown").textContent = `${count} of ${boxes.length} shown`;
    for (const figure of all("figure[data-series]")) figure.dispatchEvent(new Event("filter"));
  }
  function choose(every) {
    for (const box of boxes) box.checked = every;
    filter();
  }
  for (const box of boxes) box.addEventListener("change", filter);
  document.querySelector("#all").addEventListener("click", () => choose(true));
  document.querySelector("#none").addEventListener("click", () => choose(false));
  document.querySelector("#estimators").hidden = boxes.length < 2;
  filter();

  // Tables: a click on a title sorts up, then down, then back to the order of the report.
  function key(cell) {
    const text = (cell.dataset.value || "").replace(/\u2212/g, "-").replace(/,/g, "");
    const number = /^[-+]?inf/.test(text) ? (text[0] === "-" ? -Infinity : Infinity) : parseFloat(text);
    return { text, number };
  }
  function sort(table, at, order) {
    const body = table.tBodies[0];
    const rows = all("tr", body).map((row) => ({ row, ...key(row.cells[at]), was: Number(row.dataset.was) }));
    const numeric = table.tHead.rows[0].cells[at].classList.contains("number");
    const sign = order === "descending" ? -1 : 1;
    rows.sort((a, b) => {
      if (order === "none") return a.was - b.was;
      if (!numeric) return sign * a.text.localeCompare(b.text, "en", { numeric: true }) || a.was - b.was;
      const lacking = Number.isNaN(a.number) - Number.isNaN(b.number);  // what is no number stands last, either way
      if (lacking || Number.isNaN(a.number)) return lacking || a.was - b.was;
      return a.number === b.number ? a.was - b.was : sign * (a.number < b.number ? -1 : 1);
    });
    body.append(...rows.map(({ row }) => row));
    table.classList.toggle("sorted", order !== "none");
    for (const title of table.tHead.rows[0].cells) title.removeAttribute("aria-sort");
    if (order !== "none") table.tHead.rows[0].cells[at].setAttribute("aria-sort", order);
  }
  for (const table of all("table.sortable")) {
    all("tbody tr", table).forEach((row, at) => { row.dataset.was = at; });
    [...table.tHead.rows[0].cells].forEach((title, at) => {
      const button = make("button", { type: "button", textContent: title.textContent });
      title.replaceChildren(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "none" };
        sort(table, at, next[title.getAttribute("aria-sort")] || "ascending");
      });
    });
  }

  // LaTeX: to the clipboard, or, where there is none, selected and ready to be copied.
  for (const button of all("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const details = button.closest(".latex").querySelector("details");
      const code = details.querySelector("code");
      let said = "Copied";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        details.open = true;
        getSelection().selectAllChildren(code);
        said = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
      }
      button.nextElementSibling.textContent = said;
    });
  }

  // Figures: the nearest point under the pointer, or the arrow keys, says its values.
  const NAMESPACE = "http://www.w3.org/2000/svg";
  for (const figure of all("figure[data-series]")) {
    const card = figure.querySelector(".card");
    const svg = card.querySelector("svg");
    const series = JSON.parse(figure.dataset.series);
    const output = figure.querySelector("output");
    const ring = document.createElementNS(NAMESPACE, "circle");
    ring.setAttribute("r", "5");
    ring.setAttribute("class", "ring off");
    svg.append(ring);
    let now = null;  // [index of the series, index of the point]

    function read(found) {
      now = found;
      ring.classList.toggle("off", !found);
      output.classList.toggle("off", !found);
      output.textContent = "";
      if (!found) return;
      const [estimator, points] = series[found[0]];
      const [x, y, words] = points[found[1]];
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
      output.append(make("b", { textContent: label(estimator) }), ` ${words}`);
    }
    function nearest(distance, only = () => true) {
      let best = null, least = Infinity;
      series.forEach(([estimator, points], at) => {
        if (!shown(estimator) || !only(at)) return;
        points.forEach(([x, y], point) => {
          const far = distance(x, y);
          if (far < least) [best, least] = [[at, point], far];
        });
      });
      return [best, least];
    }
    card.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const [best, least] = nearest((x, y) => Math.hypot(x - at.x, y - at.y));
      read(least < 40 ? best : null);
    });
    card.addEventListener("pointerleave", () => read(null));
    card.addEventListener("blur", () => read(null));
    card.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
      if (event.key === "Escape") return read(null);
      if (!(event.key in steps)) return;
      event.preventDefault();
      const visible = series.map((_, at) => at).filter((at) => shown(series[at][0]));
      if (!visible.length) return;
      if (!now) return read([visible[0], 0]);
      const [other, along] = steps[event.key];
      if (along) return read([now[0], Math.min(Math.max(now[1] + along, 0), series[now[0]][1].length - 1)]);
      const next = visible[(visible.indexOf(now[0]) + other + visible.length) % visible.length];
      const [x, y] = series[now[0]][1][now[1]];
      read(nearest((a, b) => Math.hypot(a - x, (b - y) / 1e3), (at) => at === next)[0]);
    });
    figure.addEventListener("filter", () => { if (now && !shown(series[now[0]][0])) read(null); });
    figure.querySelector(".keys").hidden = false;
  }
})();
