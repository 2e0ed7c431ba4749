"use strict";
(() => {
  const svg = document.querySelector("main svg.timeline");
  const details = document.getElementById("details");
  const filter = document.getElementById("filter");
  const trouble = document.getElementById("trouble");
  const box = document.querySelector("aside");
  const { span, labels: wide, edge, row: rowHeight } = Object.fromEntries(
    Object.entries(svg.dataset).map(([key, value]) => [key, Number(value)]));
  const rows = [...svg.querySelectorAll(".row")];
  const moving = [...svg.querySelectorAll("[data-a]")].map(element => ({
    element, a: Number(element.dataset.a), b: Number(element.dataset.b), kind: element.tagName,
    aside: Number(element.dataset.aside || 0), marks: Number(element.dataset.marks || 0),
    y: rowHeight / 2,
  }));
  const grid = svg.querySelector(".grid");
  const clip = svg.querySelector("#time rect"), names = svg.querySelector("#names rect");
  const NARROW = 500, NAMES = 118;
  const HINT = "Point at a row, or move to it with Tab and the arrow keys, to see its details here.";
  let labels = wide;
  const top = 28;
  let from = 0, to = span, width = 1200, height = 0;

  // The axis stays in view while the rows scroll: a copy of its own, above them.
  const axis = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  axis.classList.add("timeline", "axis");
  axis.setAttribute("height", top);
  svg.before(axis);

  // Native titles would show beside the box; they are for viewers without a script.
  for (const title of svg.querySelectorAll("title")) {
    title.parentElement.details = title.textContent;
    title.remove();
  }

  const x = at => labels + (at - from) / (to - from) * (width - labels - edge);
  const time = px => from + (px - labels) / (width - labels - edge) * (to - from);

  function words(seconds) {
    if (seconds <= 0) return "0 s";
    if (seconds < 0.001) return Number((seconds * 1e6).toPrecision(3)) + " µs";
    if (seconds < 1) return Number((seconds * 1e3).toPrecision(4)) + " ms";
    if (seconds < 120) return Number(seconds.toPrecision(4)) + " s";
    return Math.floor(seconds / 60) + " min " + Math.round(seconds % 60) + " s";
  }

  function step(about) {
    const power = 10 ** Math.floor(Math.log10(about));
    return [1, 2, 5, 10].map(factor => factor * power).find(one => one >= about * 0.999999);
  }

  function drawGrid() {
    const size = step((to - from) / 8);
    let lines = "", numbers = "";
    for (let n = Math.ceil(from / size - 1e-9); n * size <= to * (1 + 1e-9); n += 1) {
      const at = x(n * size).toFixed(1);
      lines += `<path d="M${at},0V${height}"/>`;
      numbers += `<path d="M${at},22V28"/><text x="${at}" y="17">${words(n * size)}</text>`;
    }
    grid.innerHTML = lines;
    axis.innerHTML = `<rect class="paper" width="${width}" height="28"/><g class="grid">${numbers}</g>`;
  }

  function place(one) {
    const start = x(one.a), end = x(one.b);
    if (one.kind === "rect") {
      one.element.setAttribute("x", start);
      one.element.setAttribute("width", Math.max(end - start, 2));
    } else if (one.kind === "text") {
      placeNote(one, start, end);
    } else if (one.kind === "path") {
      one.element.setAttribute("d", `M${start},-3V${one.y}H${Math.max(start, end)}`);
    } else {
      one.element.setAttribute("transform", `translate(${start + one.aside},${one.y})`);
    }
  }

  function placeNote(one, start, end) {
    if (one.element.matches(".named")) return;
    let where = "after", at = end + 6 + 11 * one.marks;
    if (end > width - 190) {
      [where, at] = start > labels + 170 && start < width ? ["before", start - 6] : ["inside", Math.max(start, labels) + 6];
    }
    one.element.setAttribute("class", "note " + where);
    one.element.setAttribute("text-anchor", where === "before" ? "end" : "start");
    one.element.setAttribute("x", at);
    one.element.style.display = end < labels || start > width ? "none" : "";
  }

  function draw() {
    // On a narrow screen names are cut and the words beside the bars left out; the details have both.
    const room = svg.parentElement.clientWidth;
    labels = room < NARROW ? NAMES : wide;
    width = Math.max(room, labels + (room < NARROW ? 120 : 300));
    for (const one of [svg, axis]) one.setAttribute("width", width);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    for (const paper of svg.querySelectorAll(".paper, .back")) paper.setAttribute("width", width);
    svg.querySelector(".paper").setAttribute("height", height);
    clip.setAttribute("x", labels - 6);
    clip.setAttribute("width", width - labels + 6);
    names.setAttribute("width", labels - 10);
    moving.forEach(place);
    drawGrid();
  }

  function choose() {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const text = (row.textContent + " " + (row.details || "")).toLowerCase();
      const keep = text.includes(wanted) && (!trouble.checked || row.matches(".trouble, .turn, .loose"));
      row.style.display = keep ? "" : "none";
      if (keep) row.setAttribute("transform", `translate(0,${rowHeight * shown++})`);
    }
    // A link spans the rows between two attempts; with rows left out it would point at the wrong one.
    for (const link of svg.querySelectorAll(".link")) link.style.display = shown === rows.length ? "" : "none";
    height = shown * rowHeight + 12;
    draw();
  }

  function tell(found) {
    if (found && !found.details) found = found.closest(".row");
    details.textContent = found && found.details ? found.details : HINT;
    details.scrollTop = 0;
  }

  function show(event) {
    if (!box.classList.contains("pinned")) tell(event.target.closest(".mark, .row"));
  }

  function pin(row) {
    unpin();
    tell(row);
    box.classList.add("pinned");
    row.classList.add("pinned");
    row.setAttribute("aria-pressed", "true");
  }

  function unpin() {
    box.classList.remove("pinned");
    for (const row of rows) {
      row.classList.remove("pinned");
      row.removeAttribute("aria-pressed");
    }
  }

  function move(from, key) {
    const shown = rows.filter(row => row.style.display !== "none");
    const here = shown.indexOf(from);
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: shown.length - 1 }[key];
    if (shown[to]) shown[to].focus();
  }

  // One row is reached by Tab, the others from it by the arrow keys.
  function rove(row) {
    for (const one of rows) one.setAttribute("tabindex", one === row ? "0" : "-1");
  }

  function zoom(start, end) {
    const least = span / 1e5;
    if (end - start < least) return;
    from = Math.max(0, start);
    to = Math.min(span, end);
    draw();
  }

  svg.addEventListener("mousemove", show);
  svg.addEventListener("mouseleave", () => { if (!box.classList.contains("pinned")) tell(null); });
  svg.addEventListener("focusin", event => {
    const row = event.target.closest(".row");
    if (!row) return;
    rove(row);
    if (!box.classList.contains("pinned")) tell(row);
    row.scrollIntoView({ block: "nearest" });
  });
  svg.addEventListener("keydown", event => {
    const row = event.target.closest(".row");
    if (!row) return;
    if (event.key === "Enter" || event.key === " ") {
      const pinned = row.classList.contains("pinned");
      pinned ? unpin() : pin(row);
    } else if (["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) {
      move(row, event.key);
    } else {
      return;
    }
    event.preventDefault();
  });
  svg.addEventListener("wheel", event => {
    if (event.clientX < labels || !(event.ctrlKey || event.altKey || event.shiftKey)) return;
    event.preventDefault();
    const amount = event.deltaY || event.deltaX;
    if (event.shiftKey) {
      const by = Math.max(-from, Math.min(span - to, amount / 800 * (to - from)));
      zoom(from + by, to + by);
    } else {
      const here = time(event.clientX), factor = Math.exp(amount / 400);
      zoom(here - (here - from) * factor, here + (to - here) * factor);
    }
  }, { passive: false });

  let pressed = null;
  svg.addEventListener("mousedown", event => { pressed = event.clientX >= labels ? event.clientX : null; });
  svg.addEventListener("mouseup", event => {
    if (pressed !== null && Math.abs(event.clientX - pressed) > 5) {
      zoom(time(Math.min(pressed, event.clientX)), time(Math.max(pressed, event.clientX)));
    } else {
      const row = event.target.closest(".row");
      unpin();
      if (row) pin(row);
    }
    pressed = null;
  });
  addEventListener("keydown", event => { if (event.key === "Escape") unpin(); });
  addEventListener("resize", draw);
  filter.addEventListener("input", choose);
  trouble.addEventListener("change", choose);
  document.getElementById("reset").addEventListener("click", () => zoom(0, span));
  svg.querySelector(".rows").setAttribute("transform", "translate(0,4)");
  box.hidden = false;
  tell(null);
  if (rows.length) rove(rows[0]);
  choose();
})();
