/** Tables that sort, open and filter. Their rows are in the page already. */

export function startTables(): void {
  for (const table of document.querySelectorAll<HTMLTableElement>("table.sorted")) {
    const heads = [...table.querySelectorAll<HTMLTableCellElement>("thead th")];
    heads.forEach((head, column) => head.querySelector("button.sort")?.addEventListener("click", () => sort(table, heads, column)));
  }
  for (const button of document.querySelectorAll<HTMLButtonElement>("button.open")) {
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      document.getElementById(button.getAttribute("aria-controls")!)!.hidden = !open;
    });
  }
  const filter = document.getElementById("filter") as HTMLInputElement | null;
  const table = document.getElementById("swarm-table") as HTMLTableElement | null;
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const bodies = [...table!.tBodies];
    let shown = 0;
    for (const body of bodies) {
      const text = body.dataset.text!.toLowerCase();
      body.hidden = !words.every((word) => text.includes(word));
      if (!body.hidden) shown += 1;
    }
    document.getElementById("filtered")!.textContent = words.length ? `${shown} of ${bodies.length}` : "";
  });
}

/** A row group (a row and what opens below it) moves as one; figures sort from the largest on first, words from A on. */
function sort(table: HTMLTableElement, heads: HTMLTableCellElement[], column: number): void {
  const head = heads[column]!;
  const numeric = head.classList.contains("n");
  const now = head.getAttribute("aria-sort");
  const down = now === "none" ? numeric : now === "ascending";
  for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (body: HTMLTableSectionElement): string => body.rows[0]!.cells[column]!.dataset.v ?? "";
  const figure = (body: HTMLTableSectionElement): number => {
    const value = Number(key(body));
    return Number.isFinite(value) ? value : -Infinity;
  };
  const bodies = [...table.tBodies];
  bodies.sort((a, b) => (numeric ? figure(a) - figure(b) || 0 : key(a).localeCompare(key(b))) * (down ? -1 : 1));
  table.append(...bodies);
}
