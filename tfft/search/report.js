"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- A click on a column's name sorts by it: what is empty last, equal rows in the order in which they were.
  const sort = (table, head) => {
    const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
    const compare = head.dataset.kind === "number" ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: row.cells[column].dataset.sort }));
    rows.sort((a, b) => {
      if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "");
      return down ? compare(b.key, a.key) : compare(a.key, b.key);
    });
    table.tBodies[0].append(...rows.map((one) => one.row));
    all("[aria-sort]", table).forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  for (const table of all("table.sortable"))
    for (const head of all("thead th", table)) head.firstElementChild.addEventListener("click", () => sort(table, head));

  // --- A trial that is pointed at or has the focus is the same in all pictures and in the table; its values are told.
  const readout = document.getElementById("readout");
  const show = (event) => {
    const trial = event.target.closest?.("svg [data-trial]")?.dataset.trial;
    all(".on").forEach((one) => one.classList.remove("on"));
    readout.hidden = trial === undefined;
    if (trial === undefined) return;
    const same = all("[data-trial]").filter((one) => one.dataset.trial === trial);
    same.forEach((one) => one.classList.add("on"));
    readout.textContent = same.find((one) => one.dataset.told).dataset.told;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);

  // A picture is one stop of the Tab key; within it the arrows walk.
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  for (const picture of all("svg.chart")) {
    const trials = all("[data-trial]", picture);
    trials.forEach((one, place) => {
      one.setAttribute("tabindex", place === trials.length - 1 ? 0 : -1); // the best, which is drawn last
      one.addEventListener("keydown", (event) => {
        if (!(event.key in steps)) return;
        event.preventDefault();
        const next = trials[(place + steps[event.key] + trials.length) % trials.length];
        one.setAttribute("tabindex", -1);
        next.setAttribute("tabindex", 0);
        next.focus();
      });
    });
  }

  // --- One of the learning curves at a time.
  const choice = document.getElementById("curve");
  if (choice) {
    const choose = () => all("[data-curve]").forEach((one) => (one.hidden = one.dataset.curve !== choice.value));
    document.getElementById("curve-choice").hidden = false;
    choice.addEventListener("change", choose);
    choose();
  }
})();
