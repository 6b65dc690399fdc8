// Sorting, filtering, copying, reading and enlarging. Without it the page is whole, only still.
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
    const titles = [...table.tHead.rows[0].cells];
    const buttons = titles.map((title, at) => {
      const first = title.dataset.best === "high" ? "descending" : "ascending";  // the best on top
      const second = first === "ascending" ? "descending" : "ascending";
      const button = make("button", { type: "button", textContent: title.textContent, tabIndex: at ? -1 : 0 });
      title.replaceChildren(button);
      button.addEventListener("click", () => {
        const next = { none: first, [first]: second, [second]: "none" };
        sort(table, at, next[title.getAttribute("aria-sort") || "none"]);
      });
      return button;
    });
    // One stop of the Tab key for all titles; the arrow keys go from one to the next.
    table.tHead.addEventListener("keydown", (event) => {
      const at = buttons.indexOf(document.activeElement);
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (at < 0 || !buttons[to]) return;
      event.preventDefault();
      buttons[at].tabIndex = -1;
      buttons[to].tabIndex = 0;
      buttons[to].focus();
    });
  }

  // What scrolls fades out where there is more of it, and only then is a stop of the Tab key.
  function measure(box) {
    const across = box.scrollWidth - box.clientWidth, down = box.scrollHeight - box.clientHeight;
    const more = { left: box.scrollLeft > 2, right: box.scrollLeft < across - 2, below: box.scrollTop < down - 2 };
    for (const [side, hidden] of Object.entries(more)) box.style.setProperty(`--${side}`, hidden ? "#0002" : "#000");
    box.classList.toggle("more", Object.values(more).some(Boolean));
    if (across > 2 || down > 2) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  const sizes = new ResizeObserver((entries) => { for (const { target } of entries) measure(target); });
  for (const box of all(".scroll")) {
    box.addEventListener("scroll", () => measure(box), { passive: true });
    sizes.observe(box);
  }

  // Texts: to the clipboard, or, where there is none, selected and ready to be copied.
  for (const button of all("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const details = button.closest(".code").querySelector("details");
      const code = button.closest(".code").querySelector("code");
      let said = "Copied";
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        if (details) details.open = true;
        getSelection().selectAllChildren(code);
        said = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
      }
      button.nextElementSibling.textContent = said;
    });
  }

  // Figures: of curves, all values at the place under the pointer; of dots and bars, the nearest one. The arrow keys go
  // along a curve and from one to the next. A figure may be enlarged, and then be moved by dragging.
  const NAMESPACE = "http://www.w3.org/2000/svg";
  const NEAR = 40, MOST_LINES = 14;
  for (const figure of all("figure[data-series]")) {
    const card = figure.querySelector(".card");
    const svg = card.querySelector("svg");
    const series = JSON.parse(figure.dataset.series);
    const boxes = JSON.parse(figure.dataset.boxes);
    const output = figure.querySelector("output");
    const whole = svg.viewBox.baseVal;
    const size = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
    const draw = (tag, kind) => {
      const drawn = document.createElementNS(NAMESPACE, tag);
      drawn.setAttribute("class", `${kind} off`);
      svg.append(drawn);
      return drawn;
    };
    const ring = draw("circle", "ring"), line = draw("path", "cursor");
    let now = null;  // [index of the series, index of the point]

    function values(at, point) {
      const [, points, panel] = series[at];
      const [x, y] = points[point];
      if (!boxes[panel][4]) return [[at, point]];
      const near = [];
      series.forEach(([estimator, others, other], index) => {
        if (other !== panel || !shown(estimator)) return;
        let best = -1;
        others.forEach(([u], place) => { if (best < 0 || Math.abs(u - x) < Math.abs(others[best][0] - x)) best = place; });
        if (Math.abs(others[best][0] - x) < 12) near.push([index, best]);
      });
      return near.sort((a, b) => series[a[0]][1][a[1]][1] - series[b[0]][1][b[1]][1]);
    }
    function read(found) {
      now = found;
      for (const each of [ring, line]) each.classList.toggle("off", !found);
      output.hidden = !found;
      output.replaceChildren();
      if (!found) return;
      const [, points, panel] = series[found[0]];
      const [x, y] = points[found[1]];
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
      const [left, top, right, bottom, curves] = boxes[panel];
      line.classList.toggle("off", !curves);
      line.setAttribute("d", `M${x} ${top}V${bottom}`);
      const listed = values(...found);
      const at = Math.max(0, listed.findIndex(([one]) => one === found[0]));
      const from = Math.max(0, Math.min(at - (MOST_LINES >> 1), listed.length - MOST_LINES));
      // Words are "place: value". What is at one place says it once.
      const where = (words) => words.slice(0, words.indexOf(": ") + 2);
      const common = where(series[found[0]][1][found[1]][2]);
      if (listed.length > 1) output.append(make("span", { textContent: common }));
      for (const [one, point] of listed.slice(from, from + MOST_LINES)) {
        const row = make("span", { className: one === found[0] ? "now" : "" });
        const words = series[one][1][point][2];
        const rest = listed.length > 1 && where(words) === common ? words.slice(common.length) : words;
        row.append(make("b", { textContent: label(series[one][0]) }), ` ${rest}`);
        output.append(row);
      }
      if (listed.length > MOST_LINES) output.append(make("span", { textContent: `${listed.length - MOST_LINES} more` }));
      const place = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
      const frame = figure.getBoundingClientRect();
      const across = place.x - frame.left;
      output.style.left = across < frame.width / 2 ? `${across + 16}px` : "auto";
      output.style.right = across < frame.width / 2 ? "auto" : `${frame.width - across + 16}px`;
      output.style.top = `${Math.max(0, place.y - frame.top - output.offsetHeight / 2)}px`;
    }
    function nearest(distance, only = () => true) {
      let best = null, least = Infinity;
      series.forEach(([estimator, points], at) => {
        if (!shown(estimator) || !only(at)) return;
        points.forEach(([x, y], point) => {
          const far = distance(x, y, at);
          if (far < least) [best, least] = [[at, point], far];
        });
      });
      return [best, least];
    }
    function under(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const panel = boxes.findIndex(([left, top, right, bottom, curves]) =>
        curves && at.x > left - 4 && at.x < right + 4 && at.y > top - 4 && at.y < bottom + 4);
      if (panel >= 0) {  // the nearest place along the axis, then the nearest curve there
        const [best] = nearest((x, y, one) => series[one][2] === panel ? Math.abs(x - at.x) + Math.abs(y - at.y) / 1e3 : Infinity);
        return best;
      }
      const [best, least] = nearest((x, y) => Math.hypot(x - at.x, y - at.y));
      return least < NEAR ? best : null;
    }
    let held = null;
    card.addEventListener("pointermove", (event) => {
      if (!held) return read(under(event));
      const view = svg.viewBox.baseVal, scale = view.width / svg.clientWidth;
      look(held.x - (event.clientX - held.at[0]) * scale, held.y - (event.clientY - held.at[1]) * scale, view.width);
    });
    card.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch") return read(under(event));
      const { x, y, width } = svg.viewBox.baseVal;
      if (width < size.width) held = { x, y, at: [event.clientX, event.clientY] };
    });
    for (const end of ["pointerup", "pointerleave"]) card.addEventListener(end, () => { held = null; });
    card.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") read(null); });
    card.addEventListener("blur", () => read(null));
    card.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -1e9], End: [0, 1e9] };
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

    // Shows a part of the drawing, of the given width, inside its edges.
    function look(x, y, width) {
      const height = size.height * width / size.width;
      const inside = (value, start, room) => Math.min(Math.max(value, start), start + room);
      const parts = [inside(x, size.x, size.width - width), inside(y, size.y, size.height - height), width, height];
      svg.setAttribute("viewBox", parts.join(" "));
      card.classList.toggle("enlarged", width < size.width);
    }
    function enlarge(factor) {
      const view = svg.viewBox.baseVal;
      const width = Math.min(size.width, Math.max(size.width / 8, view.width / factor));
      const [x, y] = now ? series[now[0]][1][now[1]] : [view.x + view.width / 2, view.y + view.height / 2];
      look(x - width / 2, y - width * size.height / size.width / 2, width);
    }
    const factors = { in: 1.6, out: 1 / 1.6, whole: 1e-9 };
    for (const button of all("[data-zoom]", figure)) {
      button.addEventListener("click", () => enlarge(factors[button.dataset.zoom]));
    }
    card.addEventListener("dblclick", (event) => { read(under(event)); enlarge(factors.in); });
    figure.querySelector(".tools").hidden = false;
  }
})();
