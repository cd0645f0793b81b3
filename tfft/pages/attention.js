"use strict";
// Draws the attentions of the chosen layer and head; all numbers are in the page.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [layer, head, shown, maps, told] = ["layer", "head", "shown", "maps", "told"].map((id) => document.getElementById(id));
  const cell = 22;
  const svg = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const option = (value, text) => {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    return made;
  };
  // Shares of 255, end to end: (layers, heads, tokens, tokens), or (layers, tokens, tokens).
  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const models = data.models.map((one) => ({ ...one, attentions: bytes(one.attentions), rollout: bytes(one.rollout) }));
  const short = (token) => (token.length > 14 ? token.slice(0, 13) + "…" : token);

  const value = (model, row, column) => {
    const count = data.tokens.length;
    const at = Number(layer.value);
    const place = row * count + column;
    if (shown.value === "rollout") return model.rollout[at * count * count + place] / 255;
    const one = (of) => model.attentions[(at * data.heads + of) * count * count + place] / 255;
    if (head.value !== "mean") return one(Number(head.value));
    let sum = 0;
    for (let of = 0; of < data.heads; of += 1) sum += one(of);
    return sum / data.heads;
  };

  const drawn = (model) => {
    const count = data.tokens.length;
    const left = 8 + 7.5 * Math.max(...data.tokens.map((one) => short(one).length));
    const size = left + cell * count + 4;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = model.name;
    const picture = svg("svg", { width: size, height: size, viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `${model.name}: attention between tokens` });
    data.tokens.forEach((token, place) => {
      const middle = left + cell * place + cell / 2;
      picture.append(svg("text", { x: left - 5, y: middle + 4, "text-anchor": "end" }, short(token)));
      picture.append(svg("text", { transform: `translate(${middle + 4},${left - 5}) rotate(-90)` }, short(token)));
    });
    for (let row = 0; row < count; row += 1) {
      for (let column = 0; column < count; column += 1) {
        const share = value(model, row, column);
        const square = svg("rect", { x: left + cell * column, y: left + cell * row, width: cell - 1, height: cell - 1, "fill-opacity": (0.04 + 0.96 * share).toFixed(3) });
        const words = `${data.tokens[row]} looks at ${data.tokens[column]}: ${share.toFixed(3)}`;
        square.append(svg("title", {}, words));
        square.addEventListener("click", () => {
          maps.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
          square.classList.add("chosen");
          told.textContent = `${model.name}: ${words}`;
        });
        picture.append(square);
      }
    }
    figure.append(caption, picture);
    return figure;
  };

  const draw = () => {
    head.disabled = shown.value === "rollout";
    maps.replaceChildren(...models.map(drawn));
  };
  for (let at = 0; at < data.layers; at += 1) layer.append(option(at, at + 1));
  head.append(option("mean", "mean of all"));
  for (let at = 0; at < data.heads; at += 1) head.append(option(at, at + 1));
  layer.value = data.layers - 1;
  [layer, head, shown].forEach((one) => one.addEventListener("change", draw));
  draw();
})();
