/** An entry of a legend: a mark in its colour (square, triangle or strip) and what it stands for. */
export function legendItem(color: string, label: string, shape: "" | "tri" | "strip" = ""): HTMLLIElement {
  const item = document.createElement("li");
  const mark = document.createElement("i");
  mark.className = `swatch ${shape}`;
  mark.style.background = color;
  mark.setAttribute("aria-hidden", "true");
  item.append(mark, label);
  return item;
}
